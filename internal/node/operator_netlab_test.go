// SPDX-License-Identifier: Apache-2.0

package node

import (
	"io"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/sirupsen/logrus"
	logtest "github.com/sirupsen/logrus/hooks/test"

	"vxsnd/internal/config"
	"vxsnd/internal/control"
	"vxsnd/internal/vxlan"
)

// What goes to a broadcast address gets nowhere: who makes a member of it is told
// so, as explain tells it.
func TestBroadcastAddressIsWarnedOf(t *testing.T) {
	x := newLab(t)
	const want = "198.51.105.255 gets no copies: it is a broadcast address"
	broadcast := netip.MustParseAddr("198.51.105.255")
	got, err := ask[control.FDBChanged](t, x.Node, control.CommandFDBAdd, change(5, broadcast))
	check(t, err)
	if !got[0].Changed || got[0].Warning != want {
		t.Errorf("fdb add: got %+v, want a warning: %s", got[0], want)
	}
	_, dests := x.explain(control.ExplainArgs{VNI: 5, Source: host(1)})
	if len(dests) != 1 || dests[0].Copy || !strings.HasSuffix(want, dests[0].Text) {
		t.Errorf("explain: got %+v, want one without a copy for the same reason", dests)
	}
	out, err := replaced(t, x.Node, io.EOF, []control.FDBChange{change(5, broadcast), change(6, broadcast), change(6, host(1))})
	check(t, err)
	if diff := cmp.Diff([]string{want}, out.Warnings); diff != "" {
		t.Errorf("fdb file (-want +got):\n%s", diff)
	}

	log, lines := logtest.NewNullLogger()
	x.Node.log = log
	next := x.config()
	next.VTEPMembership = []config.Membership{{Addr: broadcast, VNIs: []vxlan.VNI{7}}, {Addr: host(2), VNIs: []vxlan.VNI{7}}}
	c, err := x.Prepare(next)
	check(t, err)
	c.Commit()
	var warned []any
	for _, e := range lines.AllEntries() {
		if e.Level == logrus.WarnLevel && e.Message == "static member gets no copies: it is a broadcast address" {
			warned = append(warned, e.Data["vtep"])
		}
	}
	if diff := cmp.Diff([]any{broadcast}, warned, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Errorf("vtep_membership (-want +got):\n%s", diff)
	}
}
