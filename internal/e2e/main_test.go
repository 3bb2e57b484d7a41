// SPDX-License-Identifier: Apache-2.0

// Package e2e tests the whole program: the real binary as the service node of
// a lab of namespaces, kernel VXLAN devices and hand-made packets as its VTEPs,
// and captures of what arrives at the far end. It has test files alone.
//
// VXSND_BINARY names a binary to test instead of a fresh build.
package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"vxsnd/internal/netlab"
	"vxsnd/internal/netlab/uml"
)

// patience is how long a condition may take to come true: nothing in the lab
// needs a tenth of it on an idle machine.
const patience = 30 * time.Second

// umlPatience is how long a test in user-mode Linux may take, where system calls
// are slow and a whole system may have to come up.
const umlPatience = 8 * time.Minute

// binaryDir is where the binary under test is built.
var binaryDir string

func TestMain(m *testing.M) {
	if !uml.Inside() {
		os.Exit(run(m))
	}
	status := 1
	if err := uml.Init(); err != nil {
		fmt.Println(err)
	} else {
		status = run(m)
	}
	uml.Exit(status)
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "vxsnd-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	// The program may run as somebody else, who has to reach it.
	if err := os.Chmod(dir, 0o755); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	binaryDir = dir
	status := m.Run()
	if status == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return status
}

// build builds the binary as it is shipped, once.
var build = sync.OnceValues(func() (string, error) {
	if b := os.Getenv("VXSND_BINARY"); b != "" {
		return filepath.Abs(b)
	}
	return goTool("vxsnd", "build", "vxsnd/cmd/vxsnd")
})

// buildTest builds this package's tests, once.
var buildTest = sync.OnceValues(func() (string, error) {
	return goTool("e2e.test", "test", "-c", ".")
})

// goTool runs go for a static executable of that name and returns its path.
func goTool(name, verb string, args ...string) (string, error) {
	out := filepath.Join(binaryDir, name)
	cmd := exec.Command("go", append([]string{verb, "-buildvcs=false", "-o", out}, args...)...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go %s: %w\n%s", verb, err, text)
	}
	return out, nil
}

// inUML runs the calling test, and its subtests, in user-mode Linux, for what
// the machine lacks: err says why it lacks the feature. The race detector does
// not work there, so the test is built without. Of p the modules count, and
// Systemd.
func inUML(t *testing.T, feature string, err error, p uml.Program) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), umlPatience)
	defer cancel()
	p.Path = must(buildTest())(t)
	p.Args = []string{"-test.run=^" + t.Name() + "$", "-test.v"}
	p.Env = []string{"VXSND_BINARY=" + program(t), "VXSND_NO_SKIP=1", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	p.Dir = must(os.Getwd())(t)
	out, status, uerr := uml.Run(ctx, p)
	switch {
	case errors.Is(uerr, uml.ErrAbsent):
		netlab.Lacks(t, feature, errors.Join(err, uerr))
	case uerr != nil:
		t.Fatalf("%v, output:\n%s", uerr, out)
	case status != 0 || !strings.Contains(out, "--- PASS: "+t.Name()+" "):
		t.Fatalf("got status %d, want 0; output:\n%s", status, out)
	}
	t.Logf("in user-mode Linux:\n%s", out)
}

// program returns the path of the program under test.
func program(t *testing.T) string {
	t.Helper()
	return must(build())(t)
}

// within returns a context that ends with the test, or when a wait has taken
// longer than anything in the lab should.
func within(t *testing.T) context.Context {
	d := patience
	if uml.Inside() {
		d = umlPatience / 4
	}
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// must hands the value of a call on and ends the test on its error.
func must[T any](v T, err error) func(t *testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		check(t, err)
		return v
	}
}
