// SPDX-License-Identifier: Apache-2.0

package fdb_test

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"vxsnd/internal/fdb"
	"vxsnd/internal/vxlan"
)

const sec = fdb.Time(time.Second)

var (
	v4a = netip.MustParseAddr("192.0.2.1")
	v4b = netip.MustParseAddr("192.0.2.2")
	v4c = netip.MustParseAddr("192.0.2.3")
	v6a = netip.MustParseAddr("2001:db8::1")
	v6b = netip.MustParseAddr("2001:db8::2")
)

func newTable() *fdb.Table {
	return fdb.New(fdb.Options{Learning: fdb.LearnAny, LearnHoldtime: 90 * time.Second})
}

// reg returns a registration in VNI 1.
func reg(a netip.Addr, id uint64, hold time.Duration) fdb.Update {
	return fdb.Update{VNI: 1, Addr: a, Identifier: id, Source: fdb.Registration, Holdtime: hold}
}

func from(s fdb.Source, u fdb.Update) fdb.Update { u.Source = s; return u }

func repair(u fdb.Update) fdb.Update { u.Source, u.Repair = fdb.Peer, true; return u }

// kept returns a peer's word on what is under identifier 0.
func kept(hold time.Duration) fdb.Update {
	u := from(fdb.Peer, reg(v4a, 0, hold))
	u.KeepStatic = true
	return u
}

// TestApply applies updates one after the other at time 0 and compares the
// members of VNI 1 ten seconds later.
func TestApply(t *testing.T) {
	const long = time.Minute
	tests := []struct {
		name string
		us   []fdb.Update
		want []netip.Addr
	}{
		{"registered", []fdb.Update{reg(v4a, 7, long)}, []netip.Addr{v4a}},
		{"expired", []fdb.Update{reg(v4a, 7, 10*time.Second)}, nil},
		{"shortened", []fdb.Update{reg(v4a, 7, long), reg(v4a, 7, time.Second)}, nil},
		{"static no longer", []fdb.Update{reg(v4a, 7, fdb.Static), reg(v4a, 7, time.Second)}, nil},
		{"static no longer, by the other way", []fdb.Update{from(fdb.Peer, reg(v4a, 7, fdb.Static)), reg(v4a, 7, time.Second)}, nil},
		{"identifier 0 shortens its own carrier alone", []fdb.Update{from(fdb.Peer, reg(v4a, 0, long)), reg(v4a, 0, time.Second)}, []netip.Addr{v4a}},
		{"both families under one identifier", []fdb.Update{reg(v4a, 7, long), reg(v6a, 7, long)}, []netip.Addr{v4a, v6a}},
		{"the last address of an identifier", []fdb.Update{reg(v4a, 7, long), reg(v6a, 7, long), reg(v4b, 7, long)}, []netip.Addr{v6a, v4b}},
		{"the last address, told by a peer", []fdb.Update{reg(v4a, 7, long), from(fdb.Peer, reg(v4b, 7, long))}, []netip.Addr{v4b}},
		{"identifier 0 excludes nothing", []fdb.Update{reg(v4a, 0, long), reg(v4b, 0, long)}, []netip.Addr{v4a, v4b}},
		{"replaced but for another identifier", []fdb.Update{reg(v4a, 7, long), reg(v4a, 8, long), reg(v4b, 7, long)}, []netip.Addr{v4a, v4b}},
		{"an operator's identifier replaces nothing", []fdb.Update{reg(v4a, 7, long), from(fdb.Operator, reg(v4b, 7, long))}, []netip.Addr{v4a, v4b}},
		{"withdrawn", []fdb.Update{reg(v4a, 7, long), reg(v4a, 7, 0)}, nil},
		{"withdrawn by a peer", []fdb.Update{reg(v4a, 7, long), from(fdb.Peer, reg(v4a, 7, 0))}, nil},
		{"withdrawn under another identifier", []fdb.Update{reg(v4a, 7, long), reg(v4a, 8, 0)}, []netip.Addr{v4a}},
		{"withdrawn under one of two identifiers", []fdb.Update{reg(v4a, 7, long), reg(v4a, 8, long), reg(v4a, 7, 0)}, []netip.Addr{v4a}},
		{"an operator's entry stays", []fdb.Update{from(fdb.Operator, reg(v4a, 0, fdb.Static)), reg(v4a, 0, 0), from(fdb.Peer, reg(v4a, 0, 0))}, []netip.Addr{v4a}},
		{"an operator's entry does not age", []fdb.Update{from(fdb.Operator, reg(v4a, 0, fdb.Static)), reg(v4a, 0, time.Second)}, []netip.Addr{v4a}},
		{"a configured entry stays", []fdb.Update{from(fdb.Configuration, reg(v4a, 0, fdb.Static)), from(fdb.Operator, reg(v4a, 0, 0))}, []netip.Addr{v4a}},
		{"the operator withdraws", []fdb.Update{from(fdb.Operator, reg(v4a, 0, fdb.Static)), from(fdb.Operator, reg(v4a, 0, 0))}, nil},
		{"a peer's static entry stays", []fdb.Update{from(fdb.Peer, reg(v4a, 0, fdb.Static)), reg(v4a, 0, 0)}, []netip.Addr{v4a}},
		{"the peer withdraws it", []fdb.Update{from(fdb.Peer, reg(v4a, 0, fdb.Static)), from(fdb.Peer, reg(v4a, 0, 0))}, nil},
		{"a static entry that is kept", []fdb.Update{from(fdb.Peer, reg(v4a, 0, fdb.Static)), kept(0)}, []netip.Addr{v4a}},
		{"a static entry that is not made to age", []fdb.Update{from(fdb.Peer, reg(v4a, 0, fdb.Static)), kept(time.Second)}, []netip.Addr{v4a}},
		{"one that ages is not kept", []fdb.Update{from(fdb.Peer, reg(v4a, 0, long)), kept(0)}, nil},
		{"nor kept from ageing sooner", []fdb.Update{from(fdb.Peer, reg(v4a, 0, long)), kept(time.Second)}, nil},
		{"nor what another source holds", []fdb.Update{reg(v4a, 0, fdb.Static), kept(0)}, nil},
		{"an update that keeps adds", []fdb.Update{kept(long)}, []netip.Addr{v4a}},
		{"a repair adds", []fdb.Update{repair(reg(v4a, 7, long))}, []netip.Addr{v4a}},
		{"a repair does not shorten", []fdb.Update{from(fdb.Peer, reg(v4a, 7, long)), repair(reg(v4a, 7, time.Second))}, []netip.Addr{v4a}},
		{"a repair lengthens", []fdb.Update{from(fdb.Peer, reg(v4a, 7, time.Second)), repair(reg(v4a, 7, long))}, []netip.Addr{v4a}},
		{"a repair does not replace", []fdb.Update{reg(v4a, 7, long), repair(reg(v4b, 7, long))}, []netip.Addr{v4a}},
		{"a repair does not withdraw", []fdb.Update{from(fdb.Peer, reg(v4a, 7, long)), repair(reg(v4a, 7, 0))}, []netip.Addr{v4a}},
		{"a repair does not revive", []fdb.Update{reg(v4a, 7, long), reg(v4a, 7, 0), repair(reg(v4a, 7, long))}, nil},
		{"nor what was never here", []fdb.Update{reg(v4a, 7, 0), repair(reg(v4a, 7, long))}, nil},
		{"nor what an operator took away", []fdb.Update{from(fdb.Operator, reg(v4a, 0, 0)), repair(reg(v4a, 0, fdb.Static))}, nil},
		{"a registration ends the tombstone", []fdb.Update{reg(v4a, 7, 0), reg(v4a, 7, time.Second), repair(reg(v4a, 7, long))}, []netip.Addr{v4a}},
		{"a relayed one does too", []fdb.Update{reg(v4a, 7, 0), from(fdb.Peer, reg(v4a, 7, long))}, []netip.Addr{v4a}},
		{"a tombstone is for one identifier", []fdb.Update{reg(v4a, 7, 0), repair(reg(v4a, 8, long))}, []netip.Addr{v4a}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tab := newTable()
			for _, u := range tt.us {
				tab.Apply(0, []fdb.Update{u})
			}
			if got := tab.Members(10*sec, 1, nil); !slices.Equal(got, tt.want) {
				t.Errorf("one by one: got %v, want %v", got, tt.want)
			}
			tab = newTable()
			tab.Apply(0, tt.us)
			if got := tab.Members(10*sec, 1, nil); !slices.Equal(got, tt.want) {
				t.Errorf("at once: got %v, want %v", got, tt.want)
			}
		})
	}
}

func TestRefused(t *testing.T) {
	good := reg(v4a, 7, time.Minute)
	at := func(a string) fdb.Update { u := good; u.Addr = netip.MustParseAddr(a); return u }
	big, data, odd := good, good, good
	big.VNI, data.Source, odd.Source = vxlan.MaxVNI+1, fdb.Data, 200
	zero := good
	zero.Addr = netip.Addr{}
	tests := []struct {
		name string
		u    fdb.Update
		want fdb.Refusal
	}{
		{"vni", big, fdb.RefusedInvalid},
		{"learned by update", data, fdb.RefusedInvalid},
		{"source", odd, fdb.RefusedInvalid},
		{"no address", zero, fdb.RefusedAddress},
		{"unspecified", at("0.0.0.0"), fdb.RefusedAddress},
		{"this network", at("0.1.2.3"), fdb.RefusedAddress},
		{"loopback", at("127.0.0.1"), fdb.RefusedAddress},
		{"multicast", at("224.0.0.1"), fdb.RefusedAddress},
		{"broadcast", at("255.255.255.255"), fdb.RefusedAddress},
		{"unspecified v6", at("::"), fdb.RefusedAddress},
		{"loopback v6", at("::1"), fdb.RefusedAddress},
		{"multicast v6", at("ff02::1"), fdb.RefusedAddress},
		{"link-local v6", at("fe80::1"), fdb.RefusedAddress},
		{"zone", at("fd00::1%eth0"), fdb.RefusedAddress},
		{"mapped", at("::ffff:192.0.2.1"), fdb.RefusedAddress},
		{"own address", at("198.51.100.1"), fdb.RefusedExcluded},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tab := newTable()
			tab.Exclude(map[netip.Addr]fdb.Exclusion{netip.MustParseAddr("198.51.100.1"): fdb.ExcludedOwn})
			var want fdb.Result
			want.Refused[tt.want] = 1
			if diff := cmp.Diff(want, tab.Apply(0, []fdb.Update{tt.u})); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if tt.u.Source == fdb.Registration {
				if diff := cmp.Diff(want, tab.Learn(0, []fdb.Learned{{VNI: tt.u.VNI, Addr: tt.u.Addr}})); diff != "" {
					t.Errorf("learning (-want +got):\n%s", diff)
				}
			}
			l := []fdb.Lookup{{VNI: tt.u.VNI, Source: tt.u.Addr}}
			tab.LookupBatch(0, l)
			if tt.u.Source == fdb.Registration && l[0].Learn {
				t.Errorf("got Learn, want none")
			}
			if st := tab.Stats(); st.Entries+st.VNIs != 0 {
				t.Errorf("got %+v, want nothing held", st)
			}
		})
	}
	for _, a := range []string{"240.0.0.1", "169.254.1.1", "1.2.3.4", "fd00::1", "2001:db8::1"} {
		if !fdb.Usable(netip.MustParseAddr(a)) {
			t.Errorf("%s: got unusable, want usable", a)
		}
	}
}

func TestMaxHoldtime(t *testing.T) {
	tests := []struct {
		name      string
		max, hold time.Duration
		src       fdb.Source
		want      fdb.Time
	}{
		{"below", time.Minute, time.Second, fdb.Registration, sec},
		{"capped", time.Minute, time.Hour, fdb.Registration, 60 * sec},
		{"capped of a peer", time.Minute, time.Hour, fdb.Peer, 60 * sec},
		{"static capped", time.Minute, fdb.Static, fdb.Registration, 60 * sec},
		{"static", 65535 * time.Second, fdb.Static, fdb.Registration, fdb.Never},
		{"long", 65535 * time.Second, 100000 * time.Second, fdb.Registration, 65535 * sec},
		{"unset", 0, 100000 * time.Second, fdb.Registration, 65535 * sec},
		{"operator", time.Minute, fdb.Static, fdb.Operator, fdb.Never},
		{"configuration", time.Minute, time.Hour, fdb.Configuration, 3600 * sec},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tab := fdb.New(fdb.Options{Limits: fdb.Limits{MaxHoldtime: tt.max}})
			tab.Apply(0, []fdb.Update{from(tt.src, reg(v4a, 7, tt.hold))})
			want := []fdb.Entry{{VNI: 1, Addr: v4a, Identifier: 7, Source: tt.src, Expires: tt.want}}
			if diff := cmp.Diff(want, tab.Entries(0, 1, nil), cmpopts.EquateComparable(netip.Addr{})); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// A tombstone outlives the longest time that anybody can hold the entry for.
func TestTombstoneTime(t *testing.T) {
	tests := []struct {
		name string
		held time.Duration
		at   fdb.Time
		want bool // the repair is taken in
	}{
		{"stands", time.Minute, 99 * sec, false},
		{"is over", time.Minute, 100 * sec, true},
		{"of a longer operator's entry", 200 * time.Second, 199 * sec, false},
		{"of a static one", fdb.Static, 1_000_000 * sec, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tab := fdb.New(fdb.Options{Limits: fdb.Limits{MaxHoldtime: 100 * time.Second}})
			tab.Apply(0, []fdb.Update{from(fdb.Operator, reg(v4a, 0, tt.held)), from(fdb.Operator, reg(v4a, 0, 0))})
			if got := tab.Withdrawn(tt.at, 1, v4a, 0); got == tt.want {
				t.Errorf("got %v from Withdrawn, want %v", got, !tt.want)
			}
			res := tab.Apply(tt.at, []fdb.Update{repair(reg(v4a, 0, time.Minute))})
			if got := res.Added == 1; got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

// Of more tombstones than there is room for the oldest go.
func TestTombstonesAreBounded(t *testing.T) {
	tab := fdb.New(fdb.Options{Limits: fdb.Limits{Tombstones: 100}})
	for i := range 1000 {
		tab.Apply(0, []fdb.Update{reg(vtep(i), 1, 0)})
	}
	tab.Apply(0, []fdb.Update{reg(vtep(900), 1, 0)}) // the newest now
	if got := tab.Stats().Tombstones; got != 100 {
		t.Errorf("got %d, want 100", got)
	}
	tab.Apply(0, []fdb.Update{reg(vtep(2000), 1, 0)})
	for i, want := range map[int]int{900: 1, 901: 0, 902: 1, 999: 1, 2000: 1} {
		res := tab.Apply(0, []fdb.Update{repair(reg(vtep(i), uint64(1), time.Minute))})
		if got := res.Refused[fdb.RefusedTombstone]; got != want {
			t.Errorf("%d: got %d refused, want %d", i, got, want)
		}
	}
	tab.Configure(0, fdb.Options{Limits: fdb.Limits{Tombstones: 1}})
	for i := range 200 {
		tab.Apply(0, []fdb.Update{reg(vtep(i), 1, 0)})
	}
	if got := tab.Stats().Tombstones; got != 1 {
		t.Errorf("got %d after lowering the limit, want 1", got)
	}
	for range 1000 {
		tab.Sweep(fdb.Never - 1)
	}
	if got := tab.Stats().Tombstones; got != 0 {
		t.Errorf("got %d after sweeping, want 0", got)
	}
}

func TestStrings(t *testing.T) {
	for _, tt := range []struct{ got, want string }{
		{fdb.Peer.String(), "peer"}, {fdb.Source(9).String(), "Source(9)"},
		{fdb.LearnKnown.String(), "known"}, {fdb.Learning(7).String(), "Learning(7)"},
		{fdb.RefusedInvalid.String(), "invalid"}, {fdb.Refusal(99).String(), "Refusal(99)"},
		{fdb.ExcludedDenied.String(), "denied"}, {fdb.Removed.String(), "removed"}, {fdb.ReplacedBy.String(), "replaced"},
	} {
		if tt.got != tt.want {
			t.Errorf("got %q, want %q", tt.got, tt.want)
		}
	}
}

func TestTimeSaturates(t *testing.T) {
	tests := []struct {
		name      string
		got, want any
	}{
		{"add", (5 * sec).Add(time.Second), 6 * sec},
		{"static", (5 * sec).Add(fdb.Static), fdb.Never},
		{"overflow", (fdb.Never - 1).Add(time.Second), fdb.Never},
		{"underflow", (-fdb.Never).Add(-time.Hour), -fdb.Never - 1},
		{"never stays", fdb.Never.Add(-time.Second), fdb.Never},
		{"sub", (5 * sec).Sub(2 * sec), 3 * time.Second},
		{"never less a time", fdb.Never.Sub(5 * sec), fdb.Static},
		{"sub overflow", (5 * sec).Sub(-fdb.Never), fdb.Static},
		{"sub underflow", (-5 * sec).Sub(fdb.Never), time.Duration(-1 << 63)},
	}
	for _, tt := range tests {
		if tt.got != tt.want {
			t.Errorf("%s: got %v, want %v", tt.name, tt.got, tt.want)
		}
	}
}
