// SPDX-License-Identifier: Apache-2.0

package tc

// The program on an older kernel, Linux 6.1, in user-mode Linux: its verifier
// knows less, it has no TCX, and no compiler for programs.

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

	"vxsnd/internal/netlab"
	"vxsnd/internal/netlab/uml"
)

// olderPatience is how long that may take, where system calls are slow.
const olderPatience = 5 * time.Minute

func TestMain(m *testing.M) {
	if !uml.Inside() {
		os.Exit(m.Run())
	}
	status := 1
	if err := uml.Init(); err != nil {
		fmt.Println(err)
	} else {
		status = m.Run()
	}
	uml.Exit(status)
}

// olderTests are those that run there too, with the filter as their hook.
var olderTests = []string{
	"TestOlderKernel", "TestTheProgramDoesWhatTheReferenceSays", "TestEachLiveMemberGetsOneCopy", "TestAttachAndDetach",
	"TestOtherProgramsGoOn", "TestKilled", "TestChildAttaches",
}

func TestOlderKernel(t *testing.T) {
	if uml.Inside() {
		testOlderVerifier(t)
		return
	}
	t.Parallel()
	netlab.Need(t)
	binary := filepath.Join(t.TempDir(), "tc.test")
	// The race detector does not work there.
	build := exec.Command("go", "test", "-c", "-buildvcs=false", "-o", binary, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	dir, err := os.Getwd()
	check(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), olderPatience)
	defer cancel()
	out, status, err := uml.Run(ctx, uml.Program{
		Path:    binary,
		Args:    []string{"-test.run=^(" + strings.Join(olderTests, "|") + ")$", "-test.skip=^Test.*$/^tcx$", "-test.v"},
		Env:     []string{"VXSND_NO_SKIP=1", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"},
		Dir:     dir,
		Modules: []string{"veth", "dummy", "vxlan", "bridge", "sch_ingress", "cls_bpf"},
	})
	switch {
	case errors.Is(err, uml.ErrAbsent):
		netlab.Lacks(t, "uml", err)
	case err != nil:
		t.Fatalf("%v, output:\n%s", err, out)
	case status != 0:
		t.Fatalf("got status %d, want 0; output:\n%s", status, out)
	}
	for _, name := range olderTests {
		if !strings.Contains(out, "--- PASS: "+name+" ") {
			t.Errorf("got no success of %s; output:\n%s", name, out)
		}
	}
}

// testOlderVerifier looks at what stands between the program with bpf_loop and
// this kernel: it has been verified by the time that a compiler is wanted.
func testOlderVerifier(t *testing.T) {
	k := &kernel{limit: 16}
	err := k.assign(loadProgram)
	if err == nil {
		check(t, k.Close())
		t.Fatal("got the program with bpf_loop in a kernel without a compiler")
	}
	const want = "callbacks are not allowed in non-JITed programs"
	if !strings.Contains(err.Error(), want) {
		t.Errorf("got %+v, want %s", err, want)
	}
	k, err = load(16)
	check(t, err)
	if k.most != boundedCount {
		t.Errorf("got %d members at most, want %d", k.most, boundedCount)
	}
	check(t, k.Close())
}
