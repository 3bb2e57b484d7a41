// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"slices"
	"strings"
	"testing"

	"vxsnd/internal/control"
)

// What an operator adds on one node all nodes know, also after a restart of that
// one, and what is removed there leaves all of them; so it does when it is added
// and removed on a node that has it from the others.
func TestSteerGroup(t *testing.T) {
	t.Parallel()
	l := newLab(t, 0)
	vs := l.vteps(2)
	ns := l.group(2, "learning = off", "resync_interval = 0")
	a, b := ns[0], ns[1]
	have := func(n *node, source string, want ...*machine) {
		t.Helper()
		n.waitFor("members by "+source, func() bool {
			es := n.entries(groupVNI)
			return len(es) == len(want) && !slices.ContainsFunc(es, func(e control.FDBEntry) bool {
				return e.Source != source || e.Seconds != nil || !slices.ContainsFunc(want, func(v *machine) bool { return v.addr == e.Address })
			})
		})
	}
	ctl := func(n *node, args string) { n.ctl(strings.Fields(args)...).printed() }
	ctl(a, "fdb add 500 192.0.2.1")
	ctl(a, "fdb add 500 192.0.2.2")
	have(b, "peer", vs...)
	ctl(a, "fdb del 500 192.0.2.2")
	have(b, "peer", vs[0])

	ms := []*machine{a.machine, b.machine}
	a.stop()
	a.join(ms, "learning = off", "resync_interval = 0")
	have(a, "peer", vs[0])
	refused := a.ctl("fdb", "del", "500", "192.0.2.1")
	refused.refused("a peer tells of it: remove it there", "192.0.2.1")
	ctl(a, "fdb add 500 192.0.2.1")
	// It is still there by the peer, which lets go of it a moment later: no warning.
	ctl(a, "fdb del 500 192.0.2.1")
	have(a, "peer")
	have(b, "peer")

	// What the configuration of another node names stays.
	b.stop()
	b.join(ms, "learning = off", "resync_interval = 0", "vtep_membership = 192.0.2.2 500")
	have(a, "peer", vs[1])
	ctl(a, "fdb add 500 192.0.2.2")
	del := a.ctl("fdb", "del", "500", "192.0.2.2")
	if status := must(del.Wait(within(t)))(t); status != 0 || !strings.Contains(del.stderr.String(), "still a member of VNI 500, by peer") {
		t.Errorf("got status %d and %q, want 0 and a warning that names the peer", status, del.stderr)
	}
}
