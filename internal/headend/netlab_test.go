// SPDX-License-Identifier: Apache-2.0

package headend_test

import (
	"context"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"vxsnd/internal/headend"
	"vxsnd/internal/logging"
	"vxsnd/internal/netlab"
	"vxsnd/internal/underlay"
)

// The machine of these tests is one namespace:
//
//	vxlan1       VNI 100, no default destination
//	vxlan2       VNI 200, default destination 192.0.2.9
//	vxlan3       VNIs 301 and 302 (external, with a filter)
//	mark         VNI 1, for changes that a test waits for
type machine struct {
	*netlab.Namespace
	*daemon
	t    testing.TB
	keys []headend.Key
	mark headend.Key
	fdb  *underlay.FDB
}

var allZero = make(net.HardwareAddr, 6)

const deadline = 30 * time.Second

func newMachine(t *testing.T) *machine {
	t.Helper()
	ns := newNamespace(t)
	check(t, ns.AddVXLAN("vxlan1", netlab.VXLAN{VNI: 100}))
	check(t, ns.AddVXLAN("vxlan2", netlab.VXLAN{VNI: 200, Remote: netip.MustParseAddr("192.0.2.9"), Port: 4790}))
	check(t, ns.AddExternalVXLAN("vxlan3", netlab.ExternalVXLAN{Port: 4791, Filter: true}))
	check(t, ns.AddVXLAN("mark", netlab.VXLAN{VNI: 1, Port: 4792}))
	check(t, ns.AddVNIs("vxlan3", 301, 302, netip.Addr{}))
	m := &machine{Namespace: ns, t: t, fdb: openFDB(t, ns), keys: []headend.Key{
		{Device: "vxlan1", VNI: 100}, {Device: "vxlan2", VNI: 200},
		{Device: "vxlan3", VNI: 301, External: true}, {Device: "vxlan3", VNI: 302, External: true},
	}}
	for i := range m.keys {
		m.keys[i].Index = indexOf(t, ns, m.keys[i].Device)
	}
	m.mark = headend.Key{Device: "mark", Index: indexOf(t, ns, "mark"), VNI: 1}
	m.daemon = newDaemon(t, nil, filepath.Join(t.TempDir(), "state"))
	m.options.Kernel = m.fdb
	check(t, ns.Do(func() (err error) {
		if m.options.Namespace, err = underlay.NamespaceID(); err == nil {
			m.options.BootID, err = underlay.BootID()
		}
		return err
	}))
	return m
}

func newNamespace(t testing.TB) *netlab.Namespace {
	t.Helper()
	ns, err := netlab.Test(t).Namespace("machine")
	check(t, err)
	return ns
}

func openFDB(t testing.TB, ns *netlab.Namespace) (f *underlay.FDB) {
	t.Helper()
	check(t, ns.Do(func() (err error) {
		f, err = underlay.OpenFDB()
		return err
	}))
	t.Cleanup(f.Close)
	return f
}

func indexOf(t testing.TB, ns *netlab.Namespace, dev string) int {
	t.Helper()
	l, err := ns.Link(dev)
	check(t, err)
	return l.Index
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// waitFor waits until a list has these entries, whoever made them.
func (m *machine) waitFor(k headend.Key, want ...string) {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	var got []netip.Addr
	err := netlab.Wait(ctx, fmt.Sprintf("%v on %v", want, k), func() bool {
		table, err := m.fdb.Read(k.Index)
		check(m.t, err)
		got = nil
		for _, e := range table.Entries {
			if !k.External || e.VNI == k.VNI {
				got = append(got, e.Dst)
			}
		}
		slices.SortFunc(got, netip.Addr.Compare)
		return slices.Equal(got, addrs(want...))
	})
	if err != nil {
		m.t.Fatalf("%v: got %v", err, got)
	}
}

func TestKernelHasTheLists(t *testing.T) {
	m := newMachine(t)
	check(t, m.AddFDB("vxlan1", allZero, netip.MustParseAddr("192.0.2.7")))
	m.start()
	defer func() { m.end() }()
	lists := map[headend.Key][]netip.Addr{}
	for _, k := range m.keys {
		lists[k] = addrs("192.0.2.1", "192.0.2.7", "192.0.2.9")
	}
	m.lists.Set(lists)
	for _, k := range m.keys {
		m.waitFor(k, "192.0.2.1", "192.0.2.7", "192.0.2.9")
	}
	// What removes an own entry is made up for; so is the loss of another's.
	foreign := underlay.FloodChange{FloodEntry: underlay.FloodEntry{Index: m.keys[0].Index, Dst: netip.MustParseAddr("192.0.2.7")}, Remove: true}
	own := underlay.FloodChange{FloodEntry: underlay.FloodEntry{Index: m.keys[2].Index, VNI: 301, Dst: netip.MustParseAddr("192.0.2.7")}, Remove: true}
	if errs := m.fdb.Apply([]underlay.FloodChange{foreign, own}); errs != nil {
		t.Fatal(errs)
	}
	m.lists.Configure(headend.Settings{Interval: time.Hour})
	m.waitFor(m.keys[0], "192.0.2.1", "192.0.2.7", "192.0.2.9")
	m.waitFor(m.keys[2], "192.0.2.1", "192.0.2.7", "192.0.2.9")
	status := m.lists.Status()
	want := map[headend.Key]headend.Status{
		m.keys[0]: {Wanted: 3, Own: 3}, m.keys[1]: {Wanted: 3, Own: 2, Foreign: 1},
		m.keys[2]: {Wanted: 3, Own: 3}, m.keys[3]: {Wanted: 3, Own: 3},
	}
	if !maps.Equal(status, want) {
		t.Errorf("got status %v, want %v", status, want)
	}
	// A device that is removed takes its list with it.
	check(t, m.DeleteLink("vxlan3"))
	m.lists.Drop(m.keys[2], m.keys[3])
	m.lists.Set(map[headend.Key][]netip.Addr{m.keys[0]: addrs("192.0.2.2")})
	m.waitFor(m.keys[0], "192.0.2.2")
	m.stop()
	<-m.done
	m.done <- false // for end
	check(t, m.lists.Flush())
	m.waitFor(m.keys[0])
	m.waitFor(m.keys[1], "192.0.2.9")
	if n := len(m.lists.Status()); n != 0 {
		t.Errorf("got %d lists, want none", n)
	}
}

func TestKernelTellsOfManagedDevices(t *testing.T) {
	m := newMachine(t)
	k := m.keys[0]
	check(t, m.AddManagedFDB(k.Device, allZero, netip.MustParseAddr("192.0.2.7")))
	m.start()
	defer func() { m.end() }()
	m.lists.Set(map[headend.Key][]netip.Addr{k: addrs("192.0.2.1"), m.mark: addrs("192.0.2.1")})
	m.waitFor(m.mark, "192.0.2.1")
	m.waitFor(k, "192.0.2.7")
	if want, got := (headend.Status{Wanted: 1, Managed: true}), m.lists.Status()[k]; got != want {
		t.Errorf("got status %+v, want %+v", got, want)
	}
	m.lists.Configure(headend.Settings{Devices: []string{k.Device}})
	m.waitFor(k, "192.0.2.1", "192.0.2.7")
}

// TestRestartIsSilent has the kernel tell of all changes of forwarding entries,
// and restarts the daemon: there is to be none.
func TestRestartIsSilent(t *testing.T) {
	m := newMachine(t)
	m.start()
	defer func() { m.end() }()
	lists := map[headend.Key][]netip.Addr{}
	for _, k := range m.keys {
		lists[k] = addrs("192.0.2.1", "192.0.2.2", "192.0.2.9")
	}
	m.lists.Set(lists)
	// Run does nothing more for the lists once it has done this after them: a
	// pass makes all additions before a removal.
	mark := func(member string) {
		m.lists.Set(map[headend.Key][]netip.Addr{m.mark: addrs(member)})
		m.waitFor(m.mark, member)
	}
	mark("192.0.2.1")
	mark("192.0.2.2")
	updates, done := make(chan netlink.NeighUpdate, 1000), make(chan struct{})
	check(t, m.Do(func() error { return netlink.NeighSubscribe(updates, done) }))
	m.restart()
	if got, want := m.lists.Adopted(), len(lists)+1; len(got) != want {
		t.Errorf("got %v adopted, want %d lists", got, want)
	}
	mark("192.0.2.3")
	m.lists.Set(lists)
	m.lists.Keep(nil)
	m.lists.Configure(headend.Settings{Interval: time.Hour})
	mark("192.0.2.4")
	mark("192.0.2.5")
	late := time.After(deadline)
	const marks = 6 // an addition and a removal each
	for seen := 0; seen < marks; {
		select {
		case u := <-updates:
			if u.LinkIndex == m.mark.Index {
				seen++
			} else if u.Family == unix.AF_BRIDGE {
				t.Errorf("got a change of %v on device %d (type %d), want none", u.IP, u.LinkIndex, u.Type)
			}
		case <-late:
			t.Fatalf("got %d changes of the mark, want %d", seen, marks)
		}
	}
	close(done)
	for range updates {
	}
}

// BenchmarkProgram has the real kernel take a list of 1,000 members, and then
// none.
func BenchmarkProgram(b *testing.B) {
	const members = 1000
	ns := newNamespace(b)
	check(b, ns.AddVXLAN("vxlan1", netlab.VXLAN{VNI: 100}))
	k := headend.Key{Device: "vxlan1", Index: indexOf(b, ns, "vxlan1"), VNI: 100}
	l, err := headend.Open(headend.Options{
		StateFile: filepath.Join(b.TempDir(), "state"), Namespace: "ns", BootID: "boot",
		Kernel: openFDB(b, ns), Log: logging.Discard(),
	})
	check(b, err)
	defer l.Close()
	list := someAddrs(members)
	var adding, removing time.Duration
	for b.Loop() {
		start := time.Now()
		l.Set(map[headend.Key][]netip.Addr{k: list})
		l.Pass(false)
		adding += time.Since(start)
		if got := l.Status()[k].Own; got != members {
			b.Fatalf("got %d entries, want %d", got, members)
		}
		start = time.Now()
		l.Set(map[headend.Key][]netip.Addr{k: nil})
		l.Pass(false)
		removing += time.Since(start)
	}
	b.ReportMetric(float64(adding.Milliseconds())/float64(b.N), "ms/add")
	b.ReportMetric(float64(removing.Milliseconds())/float64(b.N), "ms/remove")
}

func someAddrs(n int) (list []netip.Addr) {
	for i := range n {
		list = append(list, netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}))
	}
	return list
}
