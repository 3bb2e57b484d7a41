// SPDX-License-Identifier: Apache-2.0

package flood

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"vxsnd/internal/fdb"
	"vxsnd/internal/metrics"
	"vxsnd/internal/sock"
	"vxsnd/internal/vxlan"
)

// tapped has a worker show the packets of VNI 77, and returns what it showed.
func (r *workerRig) tapped() *[]Record {
	var taken []Record
	r.w.taps.Store(&Tap{
		Wants: func(v vxlan.VNI) bool { return v == 77 },
		Take: func(rec *Record) {
			c := *rec
			c.Payload = slices.Clone(c.Payload)
			taken = append(taken, c)
		},
	})
	return &taken
}

func verdict(copies int, drop metrics.Drop, copyDrops ...metrics.Drop) Record {
	r := Record{Copies: copies, Drop: drop}
	for _, why := range copyDrops {
		r.CopyDrops[why]++
	}
	return r
}

func learned(r Record) Record {
	r.Learned = true
	return r
}

func TestTapShowsWhatBecameOfPackets(t *testing.T) {
	tests := []struct {
		name, src string
		ttl       uint8
		want      Record
	}{
		{"flooded", "10.0.0.1:50000", 64, learned(verdict(3, metrics.DropNone, metrics.DropUnreachable, metrics.DropFamily))},
		{"of a known sender", "10.0.0.2:50000", 64, verdict(3, metrics.DropNone, metrics.DropUnreachable, metrics.DropFamily)},
		{"of the member that fails", "10.0.0.4:50000", 64, learned(verdict(4, metrics.DropNone, metrics.DropFamily))},
		{"of no member", "10.0.9.9:50000", 64, learned(verdict(4, metrics.DropNone, metrics.DropUnreachable, metrics.DropFamily))},
		{"TTL", "10.0.0.1:50000", 1, learned(verdict(0, metrics.DropTTL))},
		{"own address", "10.9.0.1:50000", 64, verdict(0, metrics.DropOwn)},
		{"service node", "10.9.0.2:50000", 64, verdict(0, metrics.DropService)},
		{"denied", "10.9.0.3:50000", 64, verdict(0, metrics.DropDenied)},
		{"no VTEP's address", "224.0.0.1:50000", 64, verdict(0, metrics.DropSource)},
		{"loopback address", "127.0.0.1:50000", 64, verdict(0, metrics.DropOwn)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newWorkerRig(t, "10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "2001:db8::1")
			r.w.local = netip.MustParseAddrPort("10.9.0.1:4789")
			r.table.Exclude(map[netip.Addr]fdb.Exclusion{
				netip.MustParseAddr("10.9.0.1"): fdb.ExcludedOwn,
				netip.MustParseAddr("10.9.0.2"): fdb.ExcludedService,
				netip.MustParseAddr("10.9.0.3"): fdb.ExcludedDenied,
			})
			r.main.Fail = func(to netip.Addr, _ int) error {
				if to.String() == "10.0.0.4" {
					return unix.ENETUNREACH
				}
				return nil
			}
			taken := r.tapped()
			// Others around it in the batch, of the same VNI among them, have
			// verdicts of their own.
			at := time.Unix(1700000000, 123456789)
			payload := append(vxlan.AppendHeader(nil, 77), "frame of this one"...)
			r.packet("10.0.0.2:1", 77, 64)
			r.packet("10.0.0.3:1", 78, 64)
			r.rd.Queue = append(r.rd.Queue, sock.Datagram{
				Payload: payload, Source: netip.MustParseAddrPort(tt.src), TTL: tt.ttl, TOS: 0xb8, Received: at.UnixNano(),
			})
			r.packet("10.0.0.3:1", 77, 64)
			r.run()
			i := slices.IndexFunc(*taken, func(r Record) bool { return string(r.Payload) == string(payload) })
			if len(*taken) != 3 || i < 0 {
				t.Fatalf("got %d records, want 3 with this packet among them", len(*taken))
			}
			want := tt.want
			want.Time, want.VNI, want.TTL, want.TOS, want.Payload = at, 77, tt.ttl, 0xb8, payload
			want.Source, want.Destination = netip.MustParseAddrPort(tt.src), r.w.local
			same := cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })
			if d := cmp.Diff(want, (*taken)[i], same); d != "" {
				t.Errorf("(-want +got)\n%s", d)
			}
		})
	}
}

func TestTapShowsAPacketWithoutOtherMembers(t *testing.T) {
	r := newWorkerRig(t)
	taken := r.tapped()
	r.packet("10.0.0.1:1", 77, 64)
	r.packet("10.0.0.1:1", 77, 64)
	r.run()
	if len(*taken) != 2 || (*taken)[0].Drop != metrics.DropNoMember || !(*taken)[0].Learned || (*taken)[1].Learned {
		t.Errorf("got %+v, want two without members, the first of them learned", *taken)
	}
	if off := time.Since((*taken)[0].Time).Abs(); off > time.Hour {
		t.Errorf("got time %v, want about now", (*taken)[0].Time)
	}
}

func TestDestinationBehindTheWildcard(t *testing.T) {
	tests := []struct{ local, told, want string }{
		{"10.0.0.9:4789", "", "10.0.0.9:4789"},
		{"0.0.0.0:4789", "10.0.0.8", "10.0.0.8:4789"},
		{"[::]:4789", "2001:db8::8", "[2001:db8::8]:4789"},
		{"0.0.0.0:4789", "", "invalid AddrPort"}, // queued before the tap was there
		{"", "", "invalid AddrPort"},             // not told
	}
	for _, tt := range tests {
		var l lane
		var p Packet
		if tt.local != "" {
			l.local = netip.MustParseAddrPort(tt.local)
		}
		if tt.told != "" {
			p.to = netip.MustParseAddr(tt.told)
		}
		if got := l.destination(&p).String(); got != tt.want {
			t.Errorf("bound to %q, told %q: got %s, want %s", tt.local, tt.told, got, tt.want)
		}
	}
}

// A tap changes nothing but the number of system calls.
func TestTapKeepsOrderAndFigures(t *testing.T) {
	var sent [2][]string
	var counts [2]metrics.FloodCount
	var traffic [2][]metrics.VNITotal
	for i := range 2 {
		r := newWorkerRig(t, "10.0.0.2", "10.0.0.3", "10.0.0.4")
		tr := metrics.NewTraffic(metrics.TrafficLimits{VNIs: 10, Senders: 10})
		r.w.tally = tr.Tally()
		if i == 1 {
			r.tapped()
		}
		for n := range 100 {
			r.packet("10.0.0.1:1", vxlan.VNI(77+n%2), 64)
			r.packet("10.0.0.5:1", vxlan.VNI(77+n%3), 64)
		}
		counts[i] = r.run()
		for _, s := range r.main.Sent {
			sent[i] = append(sent[i], s.To.String()+" "+string(s.Bytes))
		}
		traffic[i] = tr.VNIs(nil)
	}
	if d := cmp.Diff(sent[0], sent[1]); d != "" {
		t.Errorf("copies: (-without +with a tap)\n%s", d)
	}
	if d := cmp.Diff(counts[0], counts[1]); d != "" {
		t.Errorf("figures: (-without +with a tap)\n%s", d)
	}
	if d := cmp.Diff(traffic[0], traffic[1]); d != "" {
		t.Errorf("figures per VNI: (-without +with a tap)\n%s", d)
	}
}
