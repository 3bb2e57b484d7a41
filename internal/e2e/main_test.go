// SPDX-License-Identifier: Apache-2.0

// Package e2e tests the whole program: the real binary as the service node of
// a lab of namespaces, kernel VXLAN devices and hand-made packets as its VTEPs,
// and captures of what arrives at the far end. It has test files alone.
//
// VXSND_BINARY names a binary to test instead of a fresh build.
package e2e

import (
	"bytes"
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
	out := filepath.Join(binaryDir, "vxsnd")
	cmd := exec.Command("go", "build", "-buildvcs=false", "-o", out, "vxsnd/cmd/vxsnd")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	var text bytes.Buffer
	cmd.Stdout, cmd.Stderr = &text, &text
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, text.String())
	}
	return out, nil
})

// inUML runs the test of that name, and its subtests, in user-mode Linux, for
// what the machine's kernel lacks: err says what feature lacks. The race
// detector does not work there, so the test is built without.
func inUML(t *testing.T, name, feature string, err error, modules ...string) {
	t.Helper()
	file := filepath.Join(binaryDir, "e2e.test")
	cmd := exec.Command("go", "test", "-c", "-buildvcs=false", "-o", file, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go test -c: %v\n%s", err, text)
	}
	dir := must(os.Getwd())(t)
	out, status, uerr := uml.Run(within(t), uml.Program{
		Path:    file,
		Args:    []string{"-test.run=^" + name + "$", "-test.v"},
		Env:     []string{"VXSND_BINARY=" + program(t), "VXSND_NO_SKIP=1", "PATH=/usr/bin:/bin"},
		Dir:     dir,
		Modules: modules,
	})
	switch {
	case errors.Is(uerr, uml.ErrAbsent):
		netlab.Lacks(t, feature, errors.Join(err, uerr))
	case uerr != nil:
		t.Fatalf("%v, output:\n%s", uerr, out)
	case status != 0 || !strings.Contains(out, "--- PASS: "+name+" "):
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
	ctx, cancel := context.WithTimeout(t.Context(), patience)
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
