// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"vxsnd/internal/netlab"
)

// testUnitFloodsInKernel is the part of TestUnitRuns with the drop-in tc.conf: the
// engine tc by a filter (Linux 6.1), confined as the unit is.
func testUnitFloodsInKernel(t *testing.T, n *node, floods func(*testing.T)) {
	must(systemd(t, "cp", "/usr/local/share/doc/vxsnd/examples/vxsnd.service.d/tc.conf", unitDropIns))(t)
	systemctl(t, "daemon-reload")
	wantPrograms := func(want int) {
		t.Helper()
		if got := n.programs("eth0"); got != want {
			t.Errorf("got %d programs on the node's device, want %d", got, want)
		}
	}
	inKernel := func() {
		t.Helper()
		floods(t)
		if s := n.status(); s.Engine != string(engineTC) || s.Kernel == nil || s.Kernel.Packets == 0 {
			t.Errorf("got engine %s, %+v, want packets flooded by tc", s.Engine, s.Kernel)
		}
		if out := must(systemd(t, "/usr/local/sbin/vxsndctl", "show"))(t); !strings.Contains(out, "clsact") {
			t.Errorf("got no clsact in\n%s", out)
		}
		wantPrograms(1)
		wantConfined(t)
		wantNoWarning(t)
	}
	systemctl(t, "restart", "vxsnd")
	inKernel()
	// CAP_PERFMON is given up once the program is there.
	const kept = 1<<unix.CAP_NET_RAW | 1<<unix.CAP_NET_ADMIN | 1<<unix.CAP_BPF
	wantThreads(t, kept, kept|1<<unix.CAP_PERFMON)
	systemctl(t, "stop", "vxsnd")
	wantPrograms(0)

	// What a killed one leaves is cleaned up.
	systemctl(t, "start", "vxsnd")
	inKernel()
	old := mainPID(t)
	check(t, syscall.Kill(old, syscall.SIGKILL))
	check(t, netlab.Wait(within(t), "the unit to clean up", func() bool {
		out := must(systemd(t, "journalctl", "-u", "vxsnd", "-o", "cat", "-q", "--no-pager"))(t)
		return strings.Contains(out, "removed the program on device eth0\n")
	}))
	systemctl(t, "stop", "vxsnd")
	wantPrograms(0)
	must(systemd(t, "rm", unitDropIns+"/tc.conf"))(t)
	systemctl(t, "daemon-reload")
}
