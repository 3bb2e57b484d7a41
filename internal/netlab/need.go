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
	need(t, "namespaces", tryLab)
}

// NeedVRF is Need for a test that uses VRF devices (CONFIG_NET_VRF).
func NeedVRF(t TB) {
	t.Helper()
	Need(t)
	need(t, "vrf", tryVRF)
}

func need(t TB, feature string, try func() error) {
	t.Helper()
	err := try()
	switch {
	case err == nil:
	case os.Getenv(noSkip) == "1" && !slices.Contains(strings.Split(os.Getenv(maySkip), ","), feature):
		t.Fatalf("needs %s, and %s=1: %v", feature, noSkip, err)
	case os.Geteuid() != 0:
		t.Skipf("needs %s: run as root: %v", feature, err)
	default:
		t.Skipf("needs %s: %v", feature, err)
	}
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
