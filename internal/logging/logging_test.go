// SPDX-License-Identifier: Apache-2.0

package logging_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/sirupsen/logrus"

	"vxsnd/internal/logging"
)

func TestLineHasTimeLevelMessageAndFields(t *testing.T) {
	var out bytes.Buffer
	log := openLog(t, &out)
	log.WithFields(logrus.Fields{"vni": 100, "vtep": "192.0.2.1"}).WithError(errors.New("no route")).Warn("copy not sent")
	if err := log.Close(); err != nil {
		t.Errorf("close: got %v, want nil", err)
	}
	want := regexp.MustCompile(`^time="\S+T\d\d:\d\d:\d\d\.\d{3}(Z|[+-]\d\d:\d\d)" level=warning msg="copy not sent" error="no route" vni=100 vtep=192\.0\.2\.1\n$`)
	if got := out.String(); !want.MatchString(got) {
		t.Errorf("got %q, want a match of %s", got, want)
	}
	out.Reset()
	log.Error("late")
	if err := log.Close(); err != nil {
		t.Errorf("close again: got %v, want nil", err)
	}
	if out.Len() > 0 {
		t.Errorf("got %q after Close, want nothing", out.String())
	}
}

func TestLevelIsAThreshold(t *testing.T) {
	all := []logrus.Level{logrus.FatalLevel, logrus.ErrorLevel, logrus.WarnLevel, logrus.InfoLevel, logrus.DebugLevel}
	for i, level := range all {
		t.Run(level.String(), func(t *testing.T) {
			var out bytes.Buffer
			log, err := logging.Open(logging.Options{Level: level, Stdout: &out})
			if err != nil {
				t.Fatal(err)
			}
			for _, l := range all {
				log.Log(l, "line")
			}
			if err := log.Close(); err != nil {
				t.Fatal(err)
			}
			if got, want := strings.Count(out.String(), "\n"), i+1; got != want {
				t.Errorf("got %d of %d lines, want %d", got, len(all), want)
			}
		})
	}
}

func TestFileIsAppendedAndNotForEverybody(t *testing.T) {
	name := filepath.Join(t.TempDir(), "vxsnd.log")
	for range 2 {
		log, err := logging.Open(logging.Options{Level: logrus.InfoLevel, Kind: logging.File, Path: name})
		if err != nil {
			t.Fatal(err)
		}
		log.Info("started")
		if err := log.Close(); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Count(string(text), "msg=started"); got != 2 {
		t.Errorf("got %d lines, want 2 in\n%s", got, text)
	}
	fi, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	if got := fi.Mode().Perm(); got&^0o640 != 0 {
		t.Errorf("got mode %o, want no more than 640", got)
	}
}

func TestFileThatCannotBeOpened(t *testing.T) {
	name := filepath.Join(t.TempDir(), "no", "vxsnd.log")
	_, err := logging.Open(logging.Options{Kind: logging.File, Path: name})
	if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), name) {
		t.Errorf("got %v, want one that says %s does not exist", err, name)
	}
}

func TestNilLoggerDiscards(t *testing.T) {
	logging.OrDiscard(nil).Error("nobody reads this")
	log := logging.Discard()
	if got := logging.OrDiscard(log); got != log {
		t.Errorf("got another logger, want the one given")
	}
}

func TestFIFOThatNobodyReadsIsAnError(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := logging.Open(logging.Options{Kind: logging.File, Path: fifo})
	if !errors.Is(err, syscall.ENXIO) {
		t.Errorf("got %v, want ENXIO", err)
	}
}
