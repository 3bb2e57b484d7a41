// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sirupsen/logrus"

	"vxsnd/internal/config"
	"vxsnd/internal/logging"
	"vxsnd/internal/process"
)

// A default file that is gone since it was read is an error, and one that never
// was there is none.
func TestReloadWithoutTheDefaultFile(t *testing.T) {
	for _, there := range []bool{true, false} {
		file := filepath.Join(t.TempDir(), "default.conf")
		if there {
			if err := os.WriteFile(file, []byte("holdtime = 60\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		var out bytes.Buffer
		log, err := logging.Open(logging.Options{Level: logrus.InfoLevel, Stdout: &out})
		if err != nil {
			t.Fatal(err)
		}
		notify, err := process.NewNotifier()
		if err != nil {
			t.Fatal(err)
		}
		d := &daemon{name: "vxsnd", log: log, notify: notify, input: config.Input{
			Program: config.Vxsnd, File: file, Flags: []config.Flag{{Name: "-l", Option: "logdest", Value: "stdout"}},
		}}
		if err := d.load(); err != nil {
			t.Fatal(err)
		}
		if d.service, err = newFake("run", d.running, log); err != nil {
			t.Fatal(err)
		}
		before := d.running.Holdtime
		if there {
			if err := os.Remove(file); err != nil {
				t.Fatal(err)
			}
		}
		d.reload(t.Context(), true)
		if d.running.Holdtime != before {
			t.Errorf("file at start %t: got holdtime %s, want the one before, %s", there, d.running.Holdtime, before)
		}
		notify.Close()
		if err := log.Close(); err != nil {
			t.Error(err)
		}
		want := "configuration reloaded"
		if there {
			want = "configuration not reloaded"
		}
		if !strings.Contains(out.String(), want) {
			t.Errorf("file at start %t: got %q, want %q", there, out.String(), want)
		}
		if hint := "put the file back, or restart to go on with the defaults"; strings.Contains(out.String(), hint) != there {
			t.Errorf("file at start %t: got %q, want the hint %q: %t", there, out.String(), hint, there)
		}
	}
}
