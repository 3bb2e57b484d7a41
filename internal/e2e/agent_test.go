// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"vxsnd/internal/netlab"
	"vxsnd/internal/vxfld"
	"vxsnd/internal/vxlan"
)

// An agent is a VTEP's registration daemon, played by the test.
type agent struct {
	*machine
	conn *net.UDPConn
	to   netip.AddrPort
	node *node // nil where any of several may answer
}

// agent opens the registration daemon's socket on the machine: it sends from
// the port that it is answered at.
func (m *machine) agent(n *node) *agent {
	m.lab.t.Helper()
	return &agent{m, m.listen(ctlPort), netip.AddrPortFrom(n.addr, ctlPort), n}
}

// write sends bytes as they are.
func (a *agent) write(b []byte) {
	a.lab.t.Helper()
	must(a.conn.WriteToUDPAddrPort(b, a.to))(a.lab.t)
}

// send sends a message.
func (a *agent) send(v vxfld.Version, r *vxfld.Refresh) {
	a.lab.t.Helper()
	a.write(must(vxfld.Message{Version: v, Body: r}.Append(nil))(a.lab.t))
}

// receive waits for the next message, which must come from where the agent
// sends to.
func (a *agent) receive() (vxfld.Version, *vxfld.Refresh) {
	a.lab.t.Helper()
	check(a.lab.t, a.conn.SetReadDeadline(time.Now().Add(patience)))
	b := make([]byte, vxfld.MaxDatagram)
	k, from, err := a.conn.ReadFromUDPAddrPort(b)
	check(a.lab.t, err)
	if from != a.to {
		a.lab.t.Errorf("%s: got an answer from %s, want %s", a.Name, from, a.to)
	}
	m := must(vxfld.Parse(b[:k]))(a.lab.t)
	r, ok := m.Body.(*vxfld.Refresh)
	if !ok {
		a.lab.t.Fatalf("%s: got an answer of type %v, want a registration", a.Name, m.Body.Type())
	}
	return m.Version, r
}

// silent fails the test if a message has arrived that nobody has received.
func (a *agent) silent() {
	a.lab.t.Helper()
	check(a.lab.t, a.conn.SetReadDeadline(time.Unix(0, 1)))
	b := make([]byte, vxfld.MaxDatagram)
	k, from, err := a.conn.ReadFromUDPAddrPort(b)
	if err == nil {
		a.lab.t.Errorf("%s: got % x from %s, want no message", a.Name, b[:k], from)
	} else if !os.IsTimeout(err) {
		a.lab.t.Error(err)
	}
}

// ask returns the members of the VNIs by a version 3 question. What the agent
// sent before has been handled when it returns: the node handles messages one
// after the other.
func (a *agent) ask(vnis ...vxlan.VNI) map[vxlan.VNI][]netip.Addr {
	a.lab.t.Helper()
	// The marker's VNI has members, so there is an answer in any case.
	q := &vxfld.Refresh{Originator: true, Holdtime: 90, Response: vxfld.ResponseRequested}
	for _, v := range append(vnis, markerVNI) {
		q.VNIs = append(q.VNIs, vxfld.VNIMembers{VNI: v})
	}
	a.send(vxfld.V3, q)
	_, r := a.receive()
	out := members(r)
	delete(out, markerVNI)
	return out
}

// register makes addresses members of a VNI under an identifier, by a version 3
// message that asks for no answer, and waits until the node has taken it in, and
// floods to them. It has done so between before and after.
func (a *agent) register(vni vxlan.VNI, holdtime uint32, id uint64, addrs ...netip.Addr) (before, after time.Time) {
	a.lab.t.Helper()
	if len(addrs) == 0 {
		addrs = []netip.Addr{a.addr}
	}
	before = time.Now()
	a.send(vxfld.V3, &vxfld.Refresh{
		Originator: true, Holdtime: holdtime, Identifier: id,
		VNIs: []vxfld.VNIMembers{{VNI: vni, Addrs: addrs}},
	})
	a.ask()
	after = time.Now()
	a.settled()
	return before, after
}

// settled waits until the node floods to those who have registered.
func (a *agent) settled() {
	a.lab.t.Helper()
	if a.node != nil {
		a.node.settled()
	}
}

// members returns what a message lists, by VNI.
func members(r *vxfld.Refresh) map[vxlan.VNI][]netip.Addr {
	out := make(map[vxlan.VNI][]netip.Addr)
	for _, v := range r.VNIs {
		out[v.VNI] = append(out[v.VNI], v.Addrs...)
	}
	return out
}

// clockGrain is how far a coarse clock of the kernel may be behind: a tick of
// 100 Hz.
const clockGrain = 10 * time.Millisecond

// wantExpiry fails the test unless a member ends to be one between two points
// in time: whatever from sends to the node before the first arrives at the
// member, whatever it sends after the second does not.
func wantExpiry(t *testing.T, n *node, from, member *machine, vni vxlan.VNI, first, last time.Time) {
	t.Helper()
	n.settled()
	copied := func(i int) (got bool, sent, done time.Time) {
		member.forget()
		sent = time.Now()
		from.flood(n, vni, frame(netlab.Broadcast, i, 64))
		from.flush(n, member)
		done = time.Now()
		switch gs := member.got(); {
		case len(gs) > 1:
			t.Fatalf("%s: got %d copies, want 1 at most", member.Name, len(gs))
		case len(gs) == 1:
			got = true
		}
		return got, sent, done
	}
	const lead = 50 * time.Millisecond
	i := 0
	err := netlab.Wait(within(t), "the end of a member", func() bool {
		if i > 0 && time.Until(first) > lead {
			return false // nothing new to see before
		}
		i++
		got, sent, done := copied(i)
		if got && sent.After(last.Add(clockGrain)) {
			t.Fatalf("%s: got a copy %s after its end", member.Name, sent.Sub(last))
		}
		if !got && done.Before(first.Add(-clockGrain)) {
			t.Fatalf("%s: got no copy %s before its end", member.Name, first.Sub(done))
		}
		return !got
	})
	check(t, err)
}
