// SPDX-License-Identifier: Apache-2.0

package tc

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"vxsnd/internal/netlab"
)

// madeBy is the compiler of the objects in the repository, that of Debian 12.
// Others make other instructions of the same source.
const madeBy = "clang version 14."

// The generated files are those of the source: what is reviewed is what runs.
func TestObjectsAreThoseOfTheSource(t *testing.T) {
	version, err := exec.Command("clang", "--version").Output()
	if err == nil {
		_, err = exec.LookPath("llvm-strip")
	}
	if err == nil {
		_, err = os.Stat("/usr/include/bpf/bpf_helpers.h")
	}
	if err != nil {
		netlab.Lacks(t, "clang", err)
	}
	gen, err := os.ReadFile("gen.go")
	check(t, err)
	dir := t.TempDir()
	for _, line := range strings.Split(string(gen), "//go:generate ")[1:] {
		args := strings.Fields(line)
		if len(args) < 4 || args[2] != "bpf2go" {
			t.Fatalf("got %q, want a command", args)
		}
		args = append([]string{"tool", "bpf2go", "-output-dir", dir, "-go-package", "tc"}, args[3:]...)
		if out, err := exec.Command("go", args...).CombinedOutput(); err != nil {
			t.Fatalf("go %v: %v: %s", args, err, out)
		}
	}
	made, err := filepath.Glob(filepath.Join(dir, "*"))
	check(t, err)
	if len(made) != 8 {
		t.Errorf("got %v, want two programs for two targets with two files each", made)
	}
	same := strings.Contains(string(version), madeBy)
	for _, name := range made {
		if filepath.Ext(name) == ".o" && !same {
			continue
		}
		want, err := os.ReadFile(name)
		check(t, err)
		got, err := os.ReadFile(filepath.Base(name))
		check(t, err)
		if !bytes.Equal(got, want) {
			t.Errorf("%s is not what flood.bpf.c makes: run make generate", filepath.Base(name))
		}
	}
	if !same {
		netlab.Lacks(t, "clang", errOtherCompiler(version))
	}
}

// errOtherCompiler is the version of a compiler that cannot be compared with.
type errOtherCompiler []byte

func (e errOtherCompiler) Error() string {
	first, _, _ := strings.Cut(string(e), "\n")
	return first + " makes other instructions than " + madeBy + "x, of which the objects are"
}
