// SPDX-License-Identifier: Apache-2.0

package register

import (
	"encoding/hex"
	"encoding/json"
	"net/netip"
	"os"
	"testing"

	"vxsnd/internal/fdb"
	"vxsnd/internal/vxfld"
	"vxsnd/internal/vxlan"
)

// A recorder is a table without members that remembers what it was told.
type recorder struct{ updates []fdb.Update }

func (r *recorder) Apply(_ fdb.Time, us []fdb.Update) fdb.Result {
	r.updates = append(r.updates, us...)
	return fdb.Result{Added: len(us)}
}
func (r *recorder) Members(fdb.Time, vxlan.VNI, []netip.Addr) []netip.Addr { return nil }
func (r *recorder) VNIs([]vxlan.VNI) []vxlan.VNI                           { return nil }
func (r *recorder) Collisions([]fdb.Collision) []fdb.Collision             { return nil }
func (r *recorder) Excluded(a netip.Addr) fdb.Exclusion {
	if a == netip.AddrFrom4([4]byte{10, 0, 0, 100}) {
		return fdb.ExcludedService
	}
	return fdb.NotExcluded
}

// newReader returns a reader whose messages go to table.
func newReader(table Table) *reader {
	s := New(Options{Table: table, Now: func() fdb.Time { return 0 }, Settings: Settings{
		Rate: 1 << 30, MaxPacketSize: 1500,
		Peer: func(a netip.Addr) bool { return a == netip.AddrFrom4([4]byte{10, 0, 0, 201}) },
	}})
	return &reader{Server: s}
}

// Any datagram has exactly one verdict; what is refused changes nothing and
// asks nothing, and what is taken in can be a VTEP.
func FuzzDatagram(f *testing.F) {
	text, err := os.ReadFile("../vxfld/testdata/vxfld.json")
	if err != nil {
		f.Fatal(err)
	}
	var vectors []struct{ Hex string }
	if err := json.Unmarshal(text, &vectors); err != nil {
		f.Fatal(err)
	}
	for _, v := range vectors {
		b, err := hex.DecodeString(v.Hex)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, false)
		f.Add(b, true)
	}
	f.Fuzz(func(t *testing.T, b []byte, peer bool) {
		table := &recorder{}
		r := newReader(table)
		src := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, 1}), 10001)
		if peer {
			src = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, 201}), 10001)
		}
		r.handle(b, src, netip.AddrFrom4([4]byte{10, 0, 0, 100}))
		n := uint64(0)
		accepted := false
		for v := range NumVerdicts {
			n += r.counters.Verdicts[v].Load()
			accepted = accepted || v.Accepted() && r.counters.Verdicts[v].Load() > 0
		}
		if n != 1 {
			t.Fatalf("got %d verdicts, want 1", n)
		}
		if !accepted && (len(table.updates) > 0 || len(r.answers.askers) > 0) {
			t.Fatalf("got %d updates and %d askers from a refused message", len(table.updates), len(r.answers.askers))
		}
		for _, u := range table.updates {
			if !fdb.Usable(u.Addr) || u.Holdtime > 0 && table.Excluded(u.Addr) != fdb.NotExcluded || !u.VNI.Valid() || u.Holdtime < 0 {
				t.Fatalf("got update %+v, want none like this", u)
			}
			if u.Source != fdb.Registration && !peer {
				t.Fatalf("got source %s of a stranger, want %s", u.Source, fdb.Registration)
			}
		}
	})
}

// A registration is taken in at the price of decoding it; nothing else is
// allocated for one that is known already and does not ask.
func TestHandleAllocations(t *testing.T) {
	r := newReader(nothing{})
	src := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, 1}), 10001)
	body := &vxfld.Refresh{Originator: true, Holdtime: 90}
	for i := range vxlan.VNI(100) {
		body.VNIs = append(body.VNIs, vxfld.VNIMembers{VNI: i, Addrs: []netip.Addr{src.Addr()}})
	}
	b, err := vxfld.Message{Version: vxfld.V3, Body: body}.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := testing.AllocsPerRun(100, func() { r.handle(b, src, netip.Addr{}) }); got > 3 {
		t.Errorf("got %v allocations for a registration, want the 3 of its decoding", got)
	}
}

// nothing is a table that forgets at once.
type nothing struct{ *recorder }

func (nothing) Apply(fdb.Time, []fdb.Update) fdb.Result { return fdb.Result{} }
func (nothing) Excluded(netip.Addr) fdb.Exclusion       { return fdb.NotExcluded }

// BenchmarkHandle measures what a registration costs besides the table.
func BenchmarkHandle(b *testing.B) {
	for _, bench := range []struct {
		name string
		v    vxfld.Version
		n    int
	}{
		{"v3/vnis=1", vxfld.V3, 1},
		{"v3/vnis=100", vxfld.V3, 100},
		{"v1 asks/vnis=100", vxfld.V1, 100},
	} {
		b.Run(bench.name, func(b *testing.B) {
			r := newReader(nothing{})
			src := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, 1}), 10001)
			body := &vxfld.Refresh{Originator: true, Holdtime: 90}
			for i := range bench.n {
				body.VNIs = append(body.VNIs, vxfld.VNIMembers{VNI: vxlan.VNI(i), Addrs: []netip.Addr{src.Addr()}})
			}
			msg, err := vxfld.Message{Version: bench.v, Body: body}.Append(nil)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				r.handle(msg, src, netip.Addr{})
			}
		})
	}
}
