// SPDX-License-Identifier: Apache-2.0

package netlab

import (
	"os"
	"slices"
	"strings"
	"sync"
)

// TB is what the helpers for tests need of testing.TB.
type TB interface {
	Helper()
	Cleanup(func())
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
	Skipf(format string, args ...any)
}

const (
	// noSkip names the environment variable that turns each skip into a
	// failure where it is 1: for machines that must run everything.
	noSkip = "VXSND_NO_SKIP"

	// maySkip names the environment variable that excepts features from it,
	// by name and comma separated: vrf for a kernel without it.
	maySkip = "VXSND_MAY_SKIP"
)

var (
	tryLab = sync.OnceValue(func() error {
		l := New()
		defer l.Close()
		n, err := l.Namespace("probe")
		if err != nil {
			return err
		}
		return n.AddVXLAN("vxlan", VXLAN{VNI: 1})
	})
	tryVRF = sync.OnceValue(func() error {
		l := New()
		defer l.Close()
		n, err := l.Namespace("probe")
		if err != nil {
			return err
		}
		return n.AddVRF("vrf", 10)
	})
)

// Need skips the test unless labs can be made here: with root's privileges, on
// a kernel that has namespaces and VXLAN. With VXSND_NO_SKIP=1 it fails instead.
func Need(t TB) {
	t.Helper()
	if err := tryLab(); err != nil {
		Lacks(t, "namespaces", err)
	}
}

// HasVRF tells whether the kernel has VRF devices (CONFIG_NET_VRF): its error
// says why not.
func HasVRF() error { return tryVRF() }

// Lacks skips a test for want of a feature, and says why. With VXSND_NO_SKIP=1
// the test fails instead, unless VXSND_MAY_SKIP names the feature.
func Lacks(t TB, feature string, err error) {
	t.Helper()
	hint := ""
	if os.Geteuid() != 0 {
		hint = ": run as root"
	}
	if os.Getenv(noSkip) == "1" && !slices.Contains(strings.Split(os.Getenv(maySkip), ","), feature) {
		t.Fatalf("needs %s%s, and %s=1: %v", feature, hint, noSkip, err)
	}
	t.Skipf("needs %s%s: %v", feature, hint, err)
}

// Test returns a lab for a test, which is skipped as Need says. The lab is
// closed with the test.
func Test(t TB) *Lab {
	t.Helper()
	Need(t)
	l := New()
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Errorf("close lab: %v", err)
		}
	})
	return l
}
