// SPDX-License-Identifier: Apache-2.0

package underlay_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"vxsnd/internal/netlab"
	"vxsnd/internal/netlab/uml"
)

func TestMain(m *testing.M) {
	if !uml.Inside() {
		goleak.VerifyTestMain(m)
		return
	}
	status := 1
	if err := uml.Init(); err != nil {
		fmt.Println(err)
	} else {
		status = m.Run()
	}
	uml.Exit(status)
}

// umlPatience is how long a test in user-mode Linux may take, where system
// calls are slow.
const umlPatience = 5 * time.Minute

// inUML runs the calling test in user-mode Linux, whose kernel has a feature
// that others often lack, and returns true; in that kernel it returns false.
func inUML(t *testing.T, feature string, modules ...string) bool {
	t.Helper()
	if uml.Inside() {
		return false
	}
	netlab.Need(t)
	dir := t.TempDir()
	// The race detector does not work there.
	build := exec.Command("go", "test", "-c", "-buildvcs=false", "-o", filepath.Join(dir, "underlay.test"), ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	ctx, cancel := context.WithTimeout(t.Context(), umlPatience)
	defer cancel()
	out, status, err := uml.Run(ctx, uml.Program{
		Path:    filepath.Join(dir, "underlay.test"),
		Args:    []string{"-test.run=^" + t.Name() + "$", "-test.v"},
		Env:     []string{"VXSND_NO_SKIP=1", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"},
		Dir:     must(os.Getwd())(t),
		Modules: modules,
	})
	switch {
	case errors.Is(err, uml.ErrAbsent):
		netlab.Lacks(t, feature, err)
	case err != nil:
		t.Fatalf("%v, output:\n%s", err, out)
	case status != 0 || !strings.Contains(out, "--- PASS: "+t.Name()+" "):
		t.Fatalf("got status %d, want 0; output:\n%s", status, out)
	}
	return true
}
