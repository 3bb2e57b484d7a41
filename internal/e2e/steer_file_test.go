// SPDX-License-Identifier: Apache-2.0

package e2e

// Members that an operator names, one by one and in files: all of a file or
// nothing, while packets are copied.
//
//	node 192.0.2.254
//	      │
//	── switch ────
//	  │       │
//	  1       2      192.0.2.N

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"

	"vxsnd/internal/control"
	"vxsnd/internal/netlab"
	"vxsnd/internal/vxlan"
)

const (
	// steerVNI is where the traffic of these tests is.
	steerVNI vxlan.VNI = 30

	// fileVNIs times fileMembers are the lines of a large file.
	fileVNIs, fileMembers = 500, 200
)

// memberLines returns lines of a file: the large table, the VTEPs in steerVNI at its
// beginning and end, and what else there is.
func memberLines(vs []*machine, more ...string) []string {
	ls := []string{fmt.Sprintf("# of a test\n%d %s", steerVNI, vs[0].addr)}
	for i := range fileVNIs {
		for j := range fileMembers {
			ls = append(ls, fmt.Sprintf("%d %s", bigFirst+i, bigAddr(j)))
		}
	}
	for _, v := range vs[1:] {
		ls = append(ls, fmt.Sprintf("%d %s # the last", steerVNI, v.addr))
	}
	return append(ls, more...)
}

// memberFile writes a file of members.
func (n *node) memberFile(name string, lines []string) string {
	n.lab.t.Helper()
	check(n.lab.t, os.WriteFile(n.file(name), []byte(strings.Join(lines, "\n")+"\n"), 0o644))
	return n.file(name)
}

// operated returns how many entries operators have made.
func (n *node) operated() int {
	n.lab.t.Helper()
	return n.status().BySource["operator"]
}

// A file of 100,000 members replaces another, and one that is wrong anywhere or
// for which there is no room changes nothing. Who is in the old and the new one
// gets each packet meanwhile.
func TestSteerFile(t *testing.T) {
	t.Parallel()
	const burst, lines = 20, fileVNIs * fileMembers
	l := newLab(t, 0)
	vs := l.vteps(2)
	n := l.node("learning = off", "max_entries = 150000", markerConfig(vs...))
	small := n.memberFile("small", []string{"30 192.0.2.1", "30 192.0.2.2", "", "31 192.0.2.9"})
	if got, want := n.ctl("fdb", "file", small).printed(), "3 added, 0 removed, 0 kept\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}

	packets := 0
	meanwhile := func(c *ctl) *ctl {
		t.Helper()
		for ctx := within(t); ctx.Err() == nil; {
			var fs [][]byte
			for range burst {
				fs = append(fs, frame(netlab.Broadcast, packets, 64))
				packets++
			}
			vs[0].flood(n, steerVNI, fs...)
			vs[0].flush(n, vs[1])
			select {
			case <-c.Done():
				return c
			default:
			}
		}
		return c
	}
	large := n.memberFile("large", memberLines(vs))
	if got, want := meanwhile(n.ctl("fdb", "file", large)).printed(), fmt.Sprintf("%d added, 1 removed, 2 kept\n", lines); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := n.operated(); got != lines+2 {
		t.Errorf("got %d members, want %d", got, lines+2)
	}

	// What is wrong is told with its line, by the program or by the node.
	wrong := memberLines(vs, "16777216 192.0.2.3", "40", "40 192.0.2.300")
	more := memberLines(vs)
	for i := range 60000 {
		more = append(more, fmt.Sprintf("40 %s", netip.AddrFrom4([4]byte{10, 10, byte(i >> 8), byte(i)})))
	}
	for _, tt := range []struct {
		name  string
		lines []string
		want  []string
	}{
		{"wrong", wrong, []string{
			fmt.Sprintf("wrong:%d: ", lines+4), fmt.Sprintf("wrong:%d: ", lines+5), fmt.Sprintf("wrong:%d: ", lines+6)}},
		{"unfit", memberLines(vs, "40 192.0.2.3", "40 127.0.0.1"), []string{fmt.Sprintf("unfit:%d: 127.0.0.1 cannot be the address of a VTEP", lines+5)}},
		{"more", more, []string{"more:", "max_entries"}},
	} {
		c := meanwhile(n.ctl("fdb", "file", n.memberFile(tt.name, tt.lines)))
		said := c.stderr.String()
		if status := must(c.Wait(within(t)))(t); status != 1 {
			t.Errorf("%s: got status %d, want 1", tt.name, status)
		}
		for _, w := range tt.want {
			if !strings.Contains(said, w) {
				t.Errorf("%s: got %q, want %q", tt.name, said, w)
			}
		}
		if got := n.operated(); got != lines+2 {
			t.Errorf("%s: got %d members, want them to stay", tt.name, got)
		}
	}

	if got, want := meanwhile(n.ctl("fdb", "file", small)).printed(), fmt.Sprintf("1 added, %d removed, 2 kept\n", lines); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	got := vs[1].got()
	for i, g := range got {
		if number(g.inner) != i {
			t.Fatalf("got packet %d at position %d", number(g.inner), i)
		}
	}
	if len(got) != packets {
		t.Errorf("got %d packets, want %d", len(got), packets)
	}
}

// Single members come and go, and only those that an operator has made.
func TestSteerMembers(t *testing.T) {
	t.Parallel()
	l := newLab(t, 0)
	vs := l.vteps(2)
	n := l.node("learning = off", markerConfig(vs...), memberConfig([]vxlan.VNI{steerVNI + 1}, vs...))
	wantMember(t, n, vs[0], vs[1], steerVNI, false)
	add, del := []string{"fdb", "add", "30", "192.0.2.2"}, []string{"fdb", "del", "30", "192.0.2.2"}
	for range 2 { // the second time nothing changes
		n.ctl(add...).printed()
		wantMember(t, n, vs[0], vs[1], steerVNI, true)
	}
	if got := decoded[control.FDBChanged](n, add...); got.Changed {
		t.Errorf("got %+v for what is there, want no change", got)
	}
	// A reload leaves it.
	n.hangup()
	wantMember(t, n, vs[0], vs[1], steerVNI, true)
	n.ctl(del...).printed()
	wantMember(t, n, vs[0], vs[1], steerVNI, false)
	for _, tt := range []struct{ args, want string }{
		{"fdb del 30 192.0.2.2", "30"},
		{"fdb del 31 192.0.2.2", "configuration"},
	} {
		c := n.ctl(strings.Fields(tt.args)...)
		if status := must(c.Wait(within(t)))(t); status != 1 || !strings.Contains(c.stderr.String(), tt.want) {
			t.Errorf("%s: got status %d and %q, want 1 and %q", tt.args, status, c.stderr, tt.want)
		}
	}
	wantMember(t, n, vs[0], vs[1], steerVNI+1, true)

	// One that gets no copies is taken with a warning.
	c := n.ctl("fdb", "add", "30", nodeAddr)
	if status := must(c.Wait(within(t)))(t); status != 0 || !strings.Contains(c.stderr.String(), "address of this machine") {
		t.Errorf("got status %d and %q, want 0 and a warning", status, c.stderr)
	}
}
