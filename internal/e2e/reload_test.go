// SPDX-License-Identifier: Apache-2.0

package e2e

// Reloads: each option that may change while the node runs does so at SIGHUP,
// and is the same again when it is set back.
//
//	node 192.0.2.254
//	      │
//	── switch ──────────────
//	  │     │     │     │
//	  1     2     3     4       192.0.2.N

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"

	"vxsnd/internal/netlab"
	"vxsnd/internal/vxfld"
	"vxsnd/internal/vxlan"
)

const reloadVNI vxlan.VNI = 60

// What the log says of a reload.
const (
	msgReloaded = "configuration reloaded"
	msgKept     = "configuration not reloaded, the one before stays"
	msgChanged  = "option changed"
	msgRestart  = "option not changed: it needs a restart"
)

// reloading adds VTEPs 1 to count and the machine of the node, where nothing runs
// yet, and returns what each of its configurations begins with: VTEPs that are
// members, by number, and more.
func (l *lab) reloading(count int, members []int, more ...string) (n *node, vs []*machine, base []string) {
	l.t.Helper()
	vs = l.vteps(count)
	base = append([]string{"workers = 1", markerConfig(vs...)}, more...)
	for _, i := range members {
		base = append(base, memberConfig([]vxlan.VNI{reloadVNI}, vs[i-1]))
	}
	return l.idle(), vs, slices.Clip(base) // what is appended to it stays apart
}

// lines returns the complete lines of a log, each split as fields does, or as
// JSON.
func lines(log string) (ls []map[string]string) {
	for line := range strings.Lines(log) {
		switch {
		case !strings.HasSuffix(line, "\n"):
		case strings.HasPrefix(line, "{"):
			values, f := make(map[string]any), make(map[string]string)
			_ = json.Unmarshal([]byte(line), &values) // one that is not JSON has no fields
			for k, v := range values {
				f[k] = fmt.Sprint(v)
			}
			ls = append(ls, f)
		default:
			ls = append(ls, fields(line))
		}
	}
	return ls
}

// with returns those lines that have one of the given messages.
func with(ls []map[string]string, msgs ...string) []map[string]string {
	return slices.DeleteFunc(slices.Clone(ls), func(l map[string]string) bool { return !slices.Contains(msgs, l["msg"]) })
}

// values returns one field of each line.
func values(ls []map[string]string, field string) (vs []string) {
	for _, l := range ls {
		vs = append(vs, l[field])
	}
	return vs
}

// after does something and waits until the node logs one of the given messages.
// It returns what was logged since.
func (n *node) after(do func(), msgs ...string) (ls []map[string]string) {
	n.lab.t.Helper()
	before := len(lines(n.proc.Output()))
	do()
	err := netlab.Wait(within(n.lab.t), "a line "+msgs[0], func() bool {
		ls = lines(n.proc.Output())[before:]
		return len(with(ls, msgs...)) > 0
	})
	if err != nil {
		n.lab.t.Fatalf("%v; output:\n%s", err, tail(n.proc.Output()))
	}
	return ls
}

func (n *node) signal(s syscall.Signal) {
	n.lab.t.Helper()
	check(n.lab.t, n.proc.Signal(s))
}

// hangup has the node read its configuration anew and returns what it logs about
// that.
func (n *node) hangup() []map[string]string {
	n.lab.t.Helper()
	return n.after(func() { n.signal(syscall.SIGHUP) }, msgReloaded, msgKept)
}

// reload puts another configuration in force and returns what is logged about it.
func (n *node) reload(config ...string) []map[string]string {
	n.lab.t.Helper()
	n.configure(config...)
	ls := n.hangup()
	if kept := with(ls, msgKept); len(kept) > 0 {
		n.lab.t.Fatalf("got a reload refused: %q", values(kept, "error"))
	}
	n.settled()
	return ls
}

// refused has the node read a configuration that it cannot take, and returns
// all that is wrong with it, each with what to do about it.
func (n *node) refused() (why []string) {
	n.lab.t.Helper()
	n.mishaps = append(n.mishaps, msgKept)
	// A summary is not begun before the reload is over.
	ls := n.after(func() {
		n.hangup()
		n.signal(syscall.SIGUSR1)
	}, "counters")
	if len(with(ls, msgReloaded, msgChanged)) > 0 {
		n.lab.t.Fatalf("got a reload that is not refused: %q", ls)
	}
	for _, l := range with(ls, msgKept) {
		why = append(why, strings.TrimSpace(l["error"]+" "+l["hint"]))
	}
	return why
}

// settle is flush for what the node learns: it does that after it has sent the
// copies of what it read in one go, and before it reads on.
func (m *machine) settle(n *node, others ...*machine) {
	m.lab.t.Helper()
	m.flush(n, others...)
	m.flush(n, others...)
}

// wantChanges fails the test unless exactly these options changed.
func wantChanges(t *testing.T, ls []map[string]string, want ...string) {
	t.Helper()
	if got := values(with(ls, msgChanged), "option"); !slices.Equal(got, want) {
		t.Errorf("got options changed %q, want %q", got, want)
	}
}

func TestReloadStaticMembers(t *testing.T) { overEngines(t, testReloadStaticMembers) }

func testReloadStaticMembers(t *testing.T, e engine) {
	n, vs, base := e.lab(t, 0).reloading(4, nil, "learning = off")
	n.start(append(base, memberConfig([]vxlan.VNI{reloadVNI}, vs[1]))...)
	vs[3].agent(n).register(reloadVNI, 90, 5)
	steps := []struct {
		name    string
		members []*machine
		changed bool
	}{
		{"nothing", vs[1:2], false},
		{"another", vs[2:3], true},
		{"none", nil, true},
		{"the first again", vs[1:2], true},
		{"one who is registered", vs[3:], true},
		{"none again", nil, true},
	}
	for _, s := range steps {
		ls := n.reload(append(base, memberConfig([]vxlan.VNI{reloadVNI}, s.members...))...)
		var want []string
		if s.changed {
			want = []string{"vtep_membership"}
		}
		wantChanges(t, ls, want...)
		for _, v := range vs[1:] {
			wantMember(t, n, vs[0], v, reloadVNI, slices.Contains(s.members, v) || v == vs[3])
		}
		if t.Failed() {
			t.Fatalf("at %q", s.name)
		}
	}
}

// Static members that take the place of others need no room beside them, and
// what would not fit at a start is not taken.
func TestReloadStaticMembersWithinCaps(t *testing.T) {
	t.Parallel()
	n, vs, base := newLab(t, 0).reloading(3, nil, "learning = off")
	n.start(append(base, "max_members = 3", absent(reloadVNI, "10.9.0.1", "10.9.0.2", "10.9.0.3"))...)
	n.reload(append(base, "max_members = 3", absent(reloadVNI, "10.9.0.4", "10.9.0.5"), memberConfig([]vxlan.VNI{reloadVNI}, vs[1]))...)
	wantMember(t, n, vs[0], vs[1], reloadVNI, true)
	a := vs[2].agent(n)
	a.register(reloadVNI, 90, 5) // there is no room
	wantMember(t, n, vs[0], vs[2], reloadVNI, false)

	n.configure(append(base, "max_members = 2")...)
	if got := n.refused(); len(got) != 1 || !strings.Contains(got[0], "max_members") {
		t.Errorf("got %q, want one error that names max_members", got)
	}
	wantMember(t, n, vs[0], vs[1], reloadVNI, true)

	// Who registers first has the room: then none of the new ones is taken, and
	// the port of the flooding that would begin is let go.
	n.reload(append(base, "max_members = 3", "no_flood = true", memberConfig([]vxlan.VNI{reloadVNI}, vs[1]))...)
	a.register(reloadVNI, 90, 5)
	n.configure(append(base, "max_members = 3", absent(reloadVNI, "10.9.0.6", "10.9.0.7"), memberConfig([]vxlan.VNI{reloadVNI}, vs[1]))...)
	if got := n.refused(); len(got) != 1 || !strings.Contains(got[0], "max_members") {
		t.Errorf("got %q, want one error that names max_members", got)
	}
	n.waitMembers(reloadVNI, vs[1].addr, a.addr)
	check(t, must(n.ListenUDP(netip.MustParseAddrPort("0.0.0.0:4789")))(t).Close())
}

func TestReloadLearning(t *testing.T) { overEngines(t, testReloadLearning) }

func testReloadLearning(t *testing.T, e engine) {
	const known, unknown = reloadVNI, reloadVNI + 1
	n, vs, base := e.lab(t, 0).reloading(4, nil, absent(known, "10.9.0.1"))
	n.start(base...)
	learn := func(v *machine) {
		t.Helper()
		for _, vni := range []vxlan.VNI{known, unknown} {
			v.flood(n, vni, frame(netlab.Broadcast, 0, 64))
		}
		v.settle(n, vs...)
	}
	learn(vs[1])
	wantChanges(t, n.reload(append(base, "learning = off")...), "learning")
	learn(vs[2])
	wantMember(t, n, vs[0], vs[1], unknown, true) // it has been learned before
	wantMember(t, n, vs[0], vs[2], known, false)
	wantChanges(t, n.reload(append(base, "learning = known")...), "learning")
	learn(vs[2])
	wantMember(t, n, vs[0], vs[2], known, true)
	wantMember(t, n, vs[0], vs[2], unknown, false)
	wantChanges(t, n.reload(base...), "learning")
	learn(vs[3])
	wantMember(t, n, vs[0], vs[3], unknown, true)
}

func TestReloadHoldtimes(t *testing.T) { overEngines(t, testReloadHoldtimes) }

func testReloadHoldtimes(t *testing.T, e engine) {
	const short, long = 60, 50000
	n, vs, base := e.lab(t, 0).reloading(4, nil)
	n.start(append(base, "holdtime = 50000")...)
	a := vs[0].agent(n)
	left := func(vni vxlan.VNI, v *machine) int64 {
		t.Helper()
		for _, e := range n.entries(vni) {
			if e.Address == v.addr && e.Seconds != nil {
				return *e.Seconds
			}
		}
		return 0
	}
	learn := func(v *machine) int64 {
		t.Helper()
		v.flood(n, reloadVNI, frame(netlab.Broadcast, 0, 64))
		v.settle(n, vs...)
		return left(reloadVNI, v)
	}
	answered := func() uint32 {
		t.Helper()
		a.send(vxfld.V3, &vxfld.Refresh{Originator: true, Response: vxfld.ResponseAll})
		_, r := a.receive()
		return r.Holdtime
	}
	if got := learn(vs[1]); got <= short || got > long {
		t.Errorf("got %d seconds left, want about %d", got, long)
	}
	a.register(reloadVNI+1, long, 5)
	wantChanges(t, n.reload(append(base, "holdtime = 60", "max_holdtime = 60")...), "holdtime", "max_holdtime")
	if got := learn(vs[2]); got <= 0 || got > short {
		t.Errorf("got %d seconds left, want %d at most", got, short)
	}
	a.register(reloadVNI+2, long, 5)
	if before, now := left(reloadVNI+1, vs[0]), left(reloadVNI+2, vs[0]); before <= short || now <= 0 || now > short {
		t.Errorf("got %d and %d seconds left of registrations, want the cap, %d, for the later one", before, now, short)
	}
	if got := answered(); got != short {
		t.Errorf("got answers with holdtime %d, want %d", got, short)
	}
	n.reload(append(base, "holdtime = 65535")...)
	if got := learn(vs[3]); got != 0 {
		t.Errorf("got %d seconds left, want a member that does not age", got)
	}
}

// Caps that are raised let more in; one that is lowered below what there is
// throws nothing out.
func TestReloadCaps(t *testing.T) {
	t.Parallel()
	for _, option := range []string{"max_vnis", "max_members", "max_entries", "max_learned"} {
		t.Run(option, func(t *testing.T) {
			t.Parallel()
			n, vs, base := newLab(t, 0).reloading(2, nil)
			n.start(append(base, option+" = 4")...)
			a := vs[1].agent(n)
			// fill has the node take in what fits, and returns how much there is.
			fill := func() int {
				t.Helper()
				switch option {
				case "max_learned":
					vs[0].claim(n, reloadVNI, 20)
					vs[0].settle(n, vs...)
					return n.status().BySource["data"]
				case "max_vnis":
					for i := range vxlan.VNI(20) {
						a.register(reloadVNI+i, 90, 5)
					}
					return n.status().VNIs
				}
				addr := netip.MustParseAddr("10.2.0.1")
				for range 20 {
					a.register(reloadVNI, 90, 0, addr)
					addr = addr.Next()
				}
				if option == "max_members" {
					return len(n.entries(reloadVNI))
				}
				return n.status().Entries
			}
			for _, step := range []struct {
				limit string
				want  int
			}{{"4", 4}, {"7", 7}, {"5", 7}, {"9", 9}} {
				n.reload(append(base, option+" = "+step.limit)...)
				if got := fill(); got != step.want {
					t.Errorf("%s = %s: got %d, want %d", option, step.limit, got, step.want)
				}
			}
		})
	}
}
