// SPDX-License-Identifier: Apache-2.0

package netlab_test

import (
	"net"
	"testing"

	"github.com/google/go-cmp/cmp"

	"vxsnd/internal/netlab"
)

func TestWatchFDB(t *testing.T) {
	l := netlab.Test(t)
	n := must(l.Namespace("n"))(t)
	check(t, n.AddVXLAN("vxlan", netlab.VXLAN{VNI: 1, Local: addr("192.0.2.1")}))
	index := must(n.Link("vxlan"))(t).Index
	w := must(n.WatchFDB())(t)
	all := make(net.HardwareAddr, 6)
	check(t, n.AddFDB("vxlan", all, addr("192.0.2.2")))
	check(t, n.AddFDB("vxlan", all, addr("192.0.2.3")))
	if got := must(w.Events())(t); len(got) != 2 {
		t.Errorf("got %d changes, want 2", len(got))
	}
	check(t, n.DeleteFDB("vxlan", all, addr("192.0.2.2")))
	one := net.HardwareAddr{2, 0, 0, 0, 0, 1}
	check(t, n.AddFDB("vxlan", one, addr("192.0.2.4")))
	entry := func(mac net.HardwareAddr, a string) netlab.FDBEntry {
		return netlab.FDBEntry{MAC: mac, VTEP: addr(a), Permanent: true}
	}
	want := []netlab.FDBEvent{
		{FDBEntry: entry(all, "192.0.2.2"), Index: index},
		{FDBEntry: entry(all, "192.0.2.3"), Index: index},
		{FDBEntry: entry(all, "192.0.2.2"), Index: index, Removed: true},
		{FDBEntry: entry(one, "192.0.2.4"), Index: index},
	}
	compare := cmp.Comparer(func(a, b netlab.FDBEvent) bool {
		return a.VTEP == b.VTEP && a.MAC.String() == b.MAC.String() && a.Permanent == b.Permanent && a.Index == b.Index && a.Removed == b.Removed
	})
	if diff := cmp.Diff(want, must(w.Events())(t), compare); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
