// SPDX-License-Identifier: Apache-2.0

package headend_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"

	"vxsnd/internal/headend"
	"vxsnd/internal/underlay"
	"vxsnd/internal/vxlan"
)

// A model knows what is wanted, does at random what may happen, and looks that
// the kernel has what it should: the kernel that stands in knows whose each
// entry is.
type model struct {
	*daemon
	r       *rand.Rand
	index   map[string]int // of the devices there are
	last    int            // index given out
	want    map[headend.Key][]netip.Addr
	adopted map[headend.Key]bool
	free    func() // not nil while the disk is full
	what    string // was done last
}

func TestModel(t *testing.T) {
	seeds := 60
	if testing.Short() {
		seeds = 10
	}
	for seed := range seeds {
		dir := t.TempDir()
		synctest.Test(t, func(t *testing.T) {
			k := newKernel(t)
			m := &model{
				daemon: newDaemon(t, k, filepath.Join(dir, "state")),
				r:      rand.New(rand.NewPCG(uint64(seed), 5)),
				index:  map[string]int{},
				want:   map[headend.Key][]netip.Addr{},
			}
			k.quiet = seed%2 == 0
			for _, name := range []string{"a", "b", "many"} {
				m.remake(name)
			}
			m.start()
			defer func() { m.endFixed() }()
			for step := range 200 {
				m.step()
				if t.Failed() {
					t.Fatalf("seed %d, step %d: %s", seed, step, m.what)
				}
			}
		})
	}
}

func (m *model) remake(name string) {
	m.last++
	m.kernel.remake(m.index[name], m.last)
	m.index[name] = m.last
}

func (m *model) key() headend.Key {
	name := []string{"a", "b", "many"}[m.r.IntN(3)]
	k := headend.Key{Device: name, Index: m.index[name], VNI: 7}
	if name == "many" {
		k.External, k.VNI = true, vxlan.VNI(1+m.r.IntN(2))
	}
	if m.r.IntN(20) == 0 {
		k.Device = "renamed"
	}
	return k
}

func (m *model) addr() netip.Addr { return netip.AddrFrom4([4]byte{10, 0, 0, byte(m.r.IntN(6))}) }

func placeOf(k headend.Key) underlay.FloodEntry {
	if k.External {
		return underlay.FloodEntry{Index: k.Index, VNI: k.VNI}
	}
	return underlay.FloodEntry{Index: k.Index}
}

func entryOf(k headend.Key, a netip.Addr) underlay.FloodEntry {
	e := placeOf(k)
	e.Dst = a
	return e
}

// doubtful tells whether the journal tells of an entry: one that somebody else
// makes now would rightly be taken for own.
func (m *model) doubtful(e underlay.FloodEntry) bool {
	b, err := os.ReadFile(m.options.StateFile)
	if err != nil {
		m.t.Fatal(err)
	}
	for k, list := range headend.Journaled(b, m.options) {
		for _, a := range list {
			if entryOf(k, a) == e {
				return true
			}
		}
	}
	return false
}

func (m *model) step() {
	switch op := m.r.IntN(100); {
	case op < 30:
		m.setRandom()
	case op < 35:
		k := m.key()
		m.what = fmt.Sprintf("drop %v", k)
		delete(m.want, k)
		delete(m.adopted, k)
		m.drop(k)
	case op < 50:
		e := entryOf(m.key(), m.addr())
		m.what = fmt.Sprintf("operator adds %v", e)
		if _, there := m.kernel.entries[e]; !there && !m.doubtful(e) {
			m.kernel.entries[e] = others
		}
	case op < 58:
		e := entryOf(m.key(), m.addr())
		m.what = fmt.Sprintf("operator removes %v", e)
		delete(m.kernel.entries, e)
	case op < 61:
		name := m.key().Device
		m.what = "made again: " + name
		if name != "renamed" {
			m.remake(name)
		}
	case op < 64:
		k := m.key()
		m.what = fmt.Sprintf("managed: %v", k)
		if _, is := m.kernel.managed[k.Index]; is {
			delete(m.kernel.managed, k.Index)
		} else {
			m.kernel.managed[k.Index] = struct{}{}
		}
	case op < 66:
		m.what = "refuses at random"
		m.kernel.refuse = func(underlay.FloodChange) bool { return m.r.IntN(2) == 0 }
	case op < 67:
		m.what = "cannot be read"
		m.kernel.readErr = errTest
	case op < 69:
		m.what = "disk full"
		if m.free == nil {
			m.free = m.lists.Fill()
		}
	case op < 72:
		m.keep()
	case op < 75:
		m.what = "faster operator"
		if !m.kernel.quiet {
			m.kernel.before = func(changes []underlay.FloodChange) {
				c := changes[m.r.IntN(len(changes))]
				if _, there := m.kernel.entries[c.FloodEntry]; !there && !c.Remove && m.kernel.devices[c.Index] {
					m.kernel.entries[c.FloodEntry] = others
				}
			}
			m.setRandom()
			m.kernel.before = nil
		}
	case op < 80:
		m.what = "restart"
		m.begin()
	case op < 85:
		m.what = "crash"
		left := m.r.IntN(12)
		m.kernel.crash = func() bool { left--; return left < 0 }
		m.setRandom()
		m.kernel.crash = nil
		m.what = "crash in " + m.what
		m.begin()
	case op < 90:
		m.what = "comparison with faults"
		m.compare()
	default:
		m.what = "comparison"
		m.fix()
		m.compare()
		m.check()
		m.kernel.applied = nil
		m.compare()
		if len(m.kernel.applied) > 0 {
			m.t.Errorf("got changes %v of a second comparison, want none", m.kernel.applied)
		}
	}
}

func (m *model) setRandom() {
	lists := map[headend.Key][]netip.Addr{}
	for range 1 + m.r.IntN(2) {
		k := m.key()
		for other := range maps.Keys(lists) {
			if placeOf(other) == placeOf(k) {
				delete(lists, other) // which of the two wins would be chance
			}
		}
		lists[k] = nil
		for range m.r.IntN(5) {
			lists[k] = append(lists[k], m.addr())
		}
	}
	m.what = fmt.Sprintf("set %v", lists)
	for k, list := range lists {
		m.forget(k)
		slices.SortFunc(list, netip.Addr.Compare)
		m.want[k] = slices.Compact(slices.Clone(list))
	}
	m.lists.Set(lists)
	m.settle()
}

// forget forgets what was wanted in the place of a list.
func (m *model) forget(k headend.Key) {
	same := func(other headend.Key) bool { return placeOf(other) == placeOf(k) }
	maps.DeleteFunc(m.want, func(k headend.Key, _ []netip.Addr) bool { return same(k) })
	maps.DeleteFunc(m.adopted, func(k headend.Key, _ bool) bool { return same(k) })
}

func (m *model) keep() {
	present := map[headend.Key]struct{}{m.key(): {}, m.key(): {}}
	m.what = fmt.Sprintf("keep %v", present)
	m.lists.Keep(present)
	m.settle()
	maps.DeleteFunc(m.adopted, func(k headend.Key, _ bool) bool { _, ok := present[k]; return !ok })
}

// fix ends all faults.
func (m *model) fix() {
	m.kernel.refuse, m.kernel.readErr = nil, nil
	if m.free != nil {
		m.free()
		m.free = nil
	}
}

func (m *model) endFixed() {
	m.fix()
	m.end()
}

// begin ends the daemon and starts another, which must know of each entry that
// the former made.
func (m *model) begin() {
	m.endFixed()
	m.start()
	m.want, m.adopted = map[headend.Key][]netip.Addr{}, map[headend.Key]bool{}
	got := map[underlay.FloodEntry]bool{}
	for k, list := range m.lists.Adopted() {
		m.adopted[k] = true
		for _, a := range list {
			got[entryOf(k, a)] = true
		}
	}
	want := map[underlay.FloodEntry]bool{}
	for e, who := range m.kernel.entries {
		if who == us {
			want[e] = true
		}
	}
	if !maps.Equal(got, want) {
		m.t.Errorf("got %v adopted, want %v", got, want)
	}
}

// check looks at all lists after a comparison without faults.
func (m *model) check() {
	status := m.lists.Status()
	own := 0
	for _, s := range status {
		own += s.Own
	}
	made := 0
	have := map[underlay.FloodEntry][]netip.Addr{} // by place
	for e, who := range m.kernel.entries {
		if who == us {
			made++
			p := e
			p.Dst = netip.Addr{}
			have[p] = append(have[p], e.Dst)
		}
	}
	if own != made {
		m.t.Errorf("got %d own entries, want %d", own, made)
	}
	for k := range m.adopted {
		delete(have, placeOf(k))
	}
	for k, list := range m.want {
		_, managed := m.kernel.managed[k.Index]
		var want []netip.Addr
		for _, a := range list {
			if who, there := m.kernel.entries[entryOf(k, a)]; m.kernel.devices[k.Index] && !managed && !(there && who == others) {
				want = append(want, a)
			}
		}
		got := have[placeOf(k)]
		delete(have, placeOf(k))
		slices.SortFunc(got, netip.Addr.Compare)
		if !slices.Equal(got, want) {
			m.t.Errorf("%v: got %v, want %v", k, got, want)
		}
		if s := status[k]; s.Own != len(want) || s.Wanted != len(list) || s.Managed != managed {
			m.t.Errorf("%v: got status %+v, want %d wanted, %d own, managed %v", k, s, len(list), len(want), managed)
		}
	}
	if len(have) > 0 {
		m.t.Errorf("got %v in the kernel, want nothing there", have)
	}
}
