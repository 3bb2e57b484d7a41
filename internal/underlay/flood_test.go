// SPDX-License-Identifier: Apache-2.0

package underlay_test

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"vxsnd/internal/netlab"
	"vxsnd/internal/underlay"
	"vxsnd/internal/vxlan"
)

var zero = make(net.HardwareAddr, 6)

// An fdbRig is a machine with VXLAN devices whose flood entries are changed.
type fdbRig struct {
	*netlab.Namespace
	lab *netlab.Lab
	f   *underlay.FDB
}

func newFDBRig(t testing.TB) *fdbRig {
	t.Helper()
	l := netlab.Test(t)
	n, err := l.Namespace("machine")
	r := &fdbRig{Namespace: n, lab: l}
	if err == nil {
		err = n.Do(func() (err error) {
			r.f, err = underlay.OpenFDB()
			return err
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.f.Close)
	return r
}

// device makes a VXLAN device and returns its index.
func (r *fdbRig) device(t testing.TB, name string, o netlab.VXLAN) int {
	t.Helper()
	err := r.AddVXLAN(name, o)
	var l netlab.Link
	if err == nil {
		l, err = r.Link(name)
	}
	if err != nil {
		t.Fatal(err)
	}
	return l.Index
}

// want compares a device's entries, of the form "address" or "VNI address".
func (r *fdbRig) want(t *testing.T, index int, want ...string) {
	t.Helper()
	if got := entries(must(r.f.Read(index))(t)); !slices.Equal(got, want) {
		t.Errorf("got entries %v, want %v", got, want)
	}
}

func entries(tab underlay.FloodTable) []string {
	var out []string
	for _, e := range tab.Entries {
		s := e.Dst.String()
		if e.VNI != 0 {
			s = e.VNI.String() + " " + s
		}
		out = append(out, s)
	}
	slices.Sort(out)
	return out
}

func add(index int, dsts ...string) (cs []underlay.FloodChange) {
	for _, d := range dsts {
		cs = append(cs, underlay.FloodChange{FloodEntry: underlay.FloodEntry{Index: index, Dst: addr(d)}})
	}
	return cs
}

func remove(index int, dsts ...string) []underlay.FloodChange {
	cs := add(index, dsts...)
	for i := range cs {
		cs[i].Remove = true
	}
	return cs
}

// kinds names what became of changes: "" for well.
func kinds(errs []error) (out []string) {
	for _, err := range errs {
		switch {
		case err == nil:
			out = append(out, "")
		case errors.Is(err, fs.ErrExist):
			out = append(out, "exists")
		case errors.Is(err, fs.ErrNotExist):
			out = append(out, "absent")
		default:
			out = append(out, err.Error())
		}
	}
	return out
}

func TestFloodEntries(t *testing.T) {
	r := newFDBRig(t)
	a := r.device(t, "a", netlab.VXLAN{VNI: 1, Local: addr("192.0.2.1")})
	b := r.device(t, "b", netlab.VXLAN{VNI: 2, Local: addr("192.0.2.1"), Remote: addr("192.0.2.99")})
	c := r.device(t, "c", netlab.VXLAN{VNI: 3, Local: addr("2001:db8::1")})
	steps := []struct {
		name    string
		changes []underlay.FloodChange
		want    []string // nil: all went well
		a, b, c []string // entries afterwards
	}{
		{name: "none", b: []string{"192.0.2.99"}},
		{name: "add to several devices",
			changes: slices.Concat(add(a, "192.0.2.2", "192.0.2.3"), add(b, "192.0.2.2"), add(c, "2001:db8::2")),
			a:       []string{"192.0.2.2", "192.0.2.3"}, b: []string{"192.0.2.2", "192.0.2.99"}, c: []string{"2001:db8::2"}},
		{name: "what is there, and the default destination",
			changes: slices.Concat(add(a, "192.0.2.2", "192.0.2.4"), add(b, "192.0.2.99")),
			want:    []string{"exists", "", "exists"},
			a:       []string{"192.0.2.2", "192.0.2.3", "192.0.2.4"}, b: []string{"192.0.2.2", "192.0.2.99"}, c: []string{"2001:db8::2"}},
		{name: "what is not there",
			changes: slices.Concat(remove(a, "192.0.2.3", "192.0.2.9"), remove(b, "192.0.2.2")),
			want:    []string{"", "absent", ""},
			a:       []string{"192.0.2.2", "192.0.2.4"}, b: []string{"192.0.2.99"}, c: []string{"2001:db8::2"}},
		{name: "in order",
			changes: slices.Concat(add(a, "192.0.2.5", "192.0.2.5"), remove(a, "192.0.2.5", "192.0.2.5"), add(a, "192.0.2.5"), remove(a, "192.0.2.2"), add(a, "192.0.2.2")),
			want:    []string{"", "exists", "", "absent", "", "", ""},
			a:       []string{"192.0.2.2", "192.0.2.4", "192.0.2.5"}, b: []string{"192.0.2.99"}, c: []string{"2001:db8::2"}},
		{name: "no such device, no such family",
			changes: slices.Concat(add(9999, "192.0.2.1"), add(a, "2001:db8::9"), remove(9999, "192.0.2.7"), add(a, "192.0.2.6")),
			want:    []string{unix.ENODEV.Error(), unix.EAFNOSUPPORT.Error(), "absent", ""},
			a:       []string{"192.0.2.2", "192.0.2.4", "192.0.2.5", "192.0.2.6"}, b: []string{"192.0.2.99"}, c: []string{"2001:db8::2"}},
		{name: "all", changes: slices.Concat(remove(a, "192.0.2.2", "192.0.2.4", "192.0.2.5", "192.0.2.6"), remove(c, "2001:db8::2")),
			b: []string{"192.0.2.99"}},
	}
	for _, s := range steps {
		if got := kinds(r.f.Apply(s.changes)); !slices.Equal(got, s.want) {
			t.Errorf("%s: got %q, want %q", s.name, got, s.want)
		}
		r.want(t, a, s.a...)
		r.want(t, b, s.b...)
		r.want(t, c, s.c...)
		r.want(t, 0, sorted(s.a, s.b, s.c)...)
		if t.Failed() {
			t.Fatalf("after %q", s.name)
		}
	}
	r.want(t, 9999)
}

func sorted(lists ...[]string) []string {
	out := slices.Concat(lists...)
	slices.Sort(out)
	return out
}

// What the kernel sees is what an operator would have made, and the other way
// around.
func TestFloodEntriesAreThoseOfTheOperator(t *testing.T) {
	r := newFDBRig(t)
	a := r.device(t, "a", netlab.VXLAN{VNI: 1, Local: addr("192.0.2.1")})
	if errs := r.f.Apply(add(a, "192.0.2.2")); errs != nil {
		t.Fatal(errs)
	}
	want := []netlab.FDBEntry{{MAC: zero, VTEP: addr("192.0.2.2"), Permanent: true}}
	same := func(x, y netlab.FDBEntry) bool {
		return slices.Equal(x.MAC, y.MAC) && x.VTEP == y.VTEP && x.Permanent == y.Permanent
	}
	if got := must(r.FDB("a"))(t); !slices.EqualFunc(got, want, same) {
		t.Errorf("got %v, want %v", got, want)
	}
	check(t, r.AddFDB("a", zero, addr("192.0.2.2"))) // the kernel says nothing
	check(t, r.AddFDB("a", zero, addr("192.0.2.3")))
	check(t, r.AddFDB("a", net.HardwareAddr{2, 0, 0, 0, 0, 1}, addr("192.0.2.4"))) // floods nothing
	r.want(t, a, "192.0.2.2", "192.0.2.3")
	if errs := r.f.Apply(remove(a, "192.0.2.2", "192.0.2.3")); errs != nil {
		t.Fatal(errs)
	}
	r.want(t, a)
}

// An entry that becomes the default destination of its device is the operator's
// from then on.
func TestDefaultDestinationIsNotRemoved(t *testing.T) {
	r := newFDBRig(t)
	check(t, r.AddBridge("eth0", 0))
	const to = "192.0.2.7"
	tests := []struct {
		name   string
		lower  string
		remove string // what becomes of the removal
	}{
		{"a", "", "absent"},
		{"b", "eth0", ""}, // the default destination is an entry by the link, and so another one
	}
	for i, tt := range tests {
		index := r.device(t, tt.name, netlab.VXLAN{VNI: uint32(i), Local: addr("192.0.2.1"), Device: tt.lower})
		if errs := r.f.Apply(add(index, to, "192.0.2.8")); errs != nil {
			t.Fatal(errs)
		}
		check(t, r.ChangeVXLAN(tt.name, netip.Addr{}, addr(to)))
		got := kinds(r.f.Apply(remove(index, to, "192.0.2.8")))
		if want := tt.remove; want == "" && got != nil || want != "" && !slices.Equal(got, []string{want, ""}) {
			t.Errorf("%s: got %q, want %q and that the other is removed", tt.name, got, want)
		}
		r.want(t, index, to)
		if got := kinds(r.f.Apply(remove(index, to))); !slices.Equal(got, []string{"absent"}) {
			t.Errorf("%s: got %q of another removal, want that it is absent", tt.name, got)
		}
		r.want(t, index, to)
	}
}

// What goes to a port or VNI of its own, or by a link of its own, is somebody
// else's: it is there, and is not removed.
func TestFloodEntriesOfTheirOwnWay(t *testing.T) {
	r := newFDBRig(t)
	other := must(r.lab.Namespace("other"))(t)
	check(t, netlab.Veth(r.Namespace, "eth0", other, "eth0", 0))
	a := r.device(t, "a", netlab.VXLAN{VNI: 1, Local: addr("192.0.2.1"), Remote: addr("192.0.2.2"), Device: "eth0"})
	r.want(t, a, "192.0.2.2") // by eth0
	check(t, r.AddFDBVia("a", addr("192.0.2.3"), netlab.Way{VNI: 77}))
	check(t, r.AddFDBVia("a", addr("192.0.2.4"), netlab.Way{Port: 5000}))
	check(t, r.AddFDBVia("a", addr("192.0.2.5"), netlab.Way{Device: "eth0"}))
	check(t, r.AddFDBVia("a", addr("192.0.2.5"), netlab.Way{Port: 5001}))
	all := []string{"192.0.2.2", "192.0.2.3", "192.0.2.4", "192.0.2.5"}
	r.want(t, a, all...)
	if got := kinds(r.f.Apply(add(a, all...))); !slices.Equal(got, []string{"exists", "exists", "exists", "exists"}) {
		t.Errorf("add: got %q", got)
	}
	if got := kinds(r.f.Apply(remove(a, all...))); !slices.Equal(got, []string{"absent", "absent", "absent", "absent"}) {
		t.Errorf("remove: got %q", got)
	}
	// Beside it, that of the usual way is another.
	check(t, r.AddFDB("a", zero, addr("192.0.2.3")))
	if errs := r.f.Apply(remove(a, "192.0.2.3")); errs != nil {
		t.Error(errs)
	}
	r.want(t, a, all...)
	if got := len(must(r.FDB("a"))(t)); got != 5 {
		t.Errorf("got %d entries, want the 5 that there were", got)
	}
}

// One bad change among many costs the others nothing.
func TestOneBadChangeAmongMany(t *testing.T) {
	r := newFDBRig(t)
	a := r.device(t, "a", netlab.VXLAN{VNI: 1, Local: addr("192.0.2.1")})
	const n = 1000
	cs := make([]underlay.FloodChange, n)
	var want []string
	for i := range cs {
		cs[i].FloodEntry = underlay.FloodEntry{Index: a, Dst: netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})}
		if i == 500 {
			cs[i].Dst = addr("2001:db8::1")
		} else {
			want = append(want, cs[i].Dst.String())
		}
	}
	errs := r.f.Apply(cs)
	for i := range n {
		if i == 500 && !errors.Is(errs[i], unix.EAFNOSUPPORT) || i != 500 && errs[i] != nil {
			t.Fatalf("change %d: got %v", i, errs[i])
		}
	}
	r.want(t, a, sorted(want)...)
	for i := range cs {
		cs[i].Remove = true
	}
	if got := kinds(r.f.Apply(cs)); got[500] != "absent" || strings.Join(got, "") != "absent" {
		t.Errorf("got %q", got)
	}
	r.want(t, a)
}

// More devices than are looked at one by one.
func TestFloodEntriesOfManyDevices(t *testing.T) {
	r := newFDBRig(t)
	const n = 30
	var cs []underlay.FloodChange
	var want []string
	for i := range n {
		index := r.device(t, fmt.Sprint("vx", i), netlab.VXLAN{VNI: uint32(i), Local: addr("192.0.2.1")})
		cs = append(cs, add(index, "192.0.2.2", "192.0.2.3")...)
		want = append(want, "192.0.2.2", "192.0.2.3")
	}
	check(t, r.AddFDB("vx7", zero, addr("192.0.2.3")))
	got := kinds(r.f.Apply(cs))
	if len(got) != 2*n || got[15] != "exists" || strings.Join(got, "") != "exists" {
		t.Errorf("got %q, want change 15 alone to exist", got)
	}
	r.want(t, 0, sorted(want)...)
}

func TestFloodEntriesOfAnExternalDevice(t *testing.T) {
	for _, filter := range []bool{false, true} {
		t.Run(fmt.Sprint("filter ", filter), func(t *testing.T) {
			r := newFDBRig(t)
			check(t, r.AddExternalVXLAN("ext", netlab.ExternalVXLAN{Local: addr("192.0.2.1"), Filter: filter}))
			index := must(r.Link("ext"))(t).Index
			var before []string
			if filter {
				check(t, r.AddVNIs("ext", 10, 11, netip.Addr{}))
				check(t, r.AddVNIs("ext", 12, 12, addr("192.0.2.99")))
				before = []string{"12 192.0.2.99"}
			}
			r.want(t, index, before...)
			of := func(vni vxlan.VNI, remove bool, dst string) underlay.FloodChange {
				return underlay.FloodChange{FloodEntry: underlay.FloodEntry{Index: index, VNI: vni, Dst: addr(dst)}, Remove: remove}
			}
			if errs := r.f.Apply([]underlay.FloodChange{of(10, false, "192.0.2.2"), of(10, false, "192.0.2.3"), of(11, false, "192.0.2.2")}); errs != nil {
				t.Fatal(errs)
			}
			r.want(t, index, sorted([]string{"10 192.0.2.2", "10 192.0.2.3", "11 192.0.2.2"}, before)...)
			got := kinds(r.f.Apply([]underlay.FloodChange{of(11, false, "192.0.2.2"), of(11, true, "192.0.2.3"), of(10, true, "192.0.2.2")}))
			if want := []string{"exists", "absent", ""}; !slices.Equal(got, want) {
				t.Errorf("got %q, want %q", got, want)
			}
			r.want(t, index, sorted([]string{"10 192.0.2.3", "11 192.0.2.2"}, before)...)
		})
	}
}

// A device is another daemon's when any entry says so, of whatever MAC.
func TestManagedDevices(t *testing.T) {
	r := newFDBRig(t)
	a := r.device(t, "a", netlab.VXLAN{VNI: 1, Local: addr("192.0.2.1")})
	b := r.device(t, "b", netlab.VXLAN{VNI: 2, Local: addr("192.0.2.1")})
	c := r.device(t, "c", netlab.VXLAN{VNI: 3, Local: addr("192.0.2.1")})
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 1}
	check(t, r.AddManagedFDB("b", mac, addr("192.0.2.2")))
	check(t, r.AddManagedFDB("c", zero, addr("192.0.2.3")))
	check(t, r.AddFDB("a", mac, addr("192.0.2.2")))
	managed := func(index int, want ...int) {
		t.Helper()
		m := must(r.f.Read(index))(t).Managed
		if len(m) != len(want) {
			t.Errorf("got %v, want %v", m, want)
		}
		for _, i := range want {
			if _, ok := m[i]; !ok {
				t.Errorf("got %v, want %v", m, want)
			}
		}
	}
	managed(0, b, c)
	managed(a)
	managed(b, b)
	r.want(t, c, "192.0.2.3")
	check(t, r.DeleteFDB("b", mac, addr("192.0.2.2")))
	managed(0, c)
}

// BenchmarkApply adds and removes 1,000 entries of a device.
func BenchmarkApply(b *testing.B) {
	r := newFDBRig(b)
	a := r.device(b, "a", netlab.VXLAN{VNI: 1, Local: addr("192.0.2.1")})
	cs := make([]underlay.FloodChange, 1000)
	for b.Loop() {
		for _, gone := range []bool{false, true} {
			for i := range cs {
				cs[i] = underlay.FloodChange{FloodEntry: underlay.FloodEntry{Index: a, Dst: netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})}, Remove: gone}
			}
			if errs := r.f.Apply(cs); errs != nil {
				b.Fatal(errs)
			}
		}
	}
}
