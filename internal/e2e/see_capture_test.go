// SPDX-License-Identifier: Apache-2.0

package e2e

// Captures: what a node has received and what became of it, and what it says
// would become of a packet, against what arrives at the far ends.
//
//	node 192.0.2.254
//	      │
//	── switch ────────────────
//	  │     │     │     │
//	  1     2     3     4       192.0.2.N

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"

	"vxsnd/internal/control"
	"vxsnd/internal/netlab"
	"vxsnd/internal/vxlan"
)

// A saved packet is one of a capture file.
type saved struct {
	src     netip.AddrPort
	ttl     uint8
	vni     vxlan.VNI
	inner   []byte
	verdict string
}

// readFile returns the packets of a capture file, with how many the file says are
// missing.
func readFile(t *testing.T, name string) (all []saved, missing uint64) {
	t.Helper()
	f := must(os.Open(name))(t)
	defer f.Close()
	r := must(pcapgo.NewNgReader(f, pcapgo.NgReaderOptions{WantMixedLinkType: true}))(t)
	for {
		data, info, options, err := r.ReadPacketDataWithOptions()
		if errors.Is(err, io.EOF) {
			return all, missing
		}
		check(t, err)
		if info.CaptureLength != info.Length || info.Timestamp.IsZero() {
			t.Errorf("got %d of %d bytes at %v, want all of them and a time", info.CaptureLength, info.Length, info.Timestamp)
		}
		p := gopacket.NewPacket(data, layers.LayerTypeIPv4, gopacket.Default)
		ip, _ := p.Layer(layers.LayerTypeIPv4).(*layers.IPv4)
		udp, _ := p.Layer(layers.LayerTypeUDP).(*layers.UDP)
		vx, _ := p.Layer(layers.LayerTypeVXLAN).(*layers.VXLAN)
		if ip == nil || udp == nil || vx == nil || udp.DstPort != dataPort || len(options.Comments) != 1 {
			t.Fatalf("got packet %v with comments %q, want VXLAN and one comment", p, options.Comments)
		}
		if options.DropCount != nil {
			missing += *options.DropCount
		}
		src, _ := netip.AddrFromSlice(ip.SrcIP)
		all = append(all, saved{
			src: netip.AddrPortFrom(src, uint16(udp.SrcPort)), ttl: ip.TTL, vni: vxlan.VNI(vx.VNI),
			inner: vx.Payload, verdict: options.Comments[0],
		})
	}
}

// A capture of a VXLAN with much traffic has each packet and what became of it,
// nothing of other VXLANs, and flooding loses nothing.
func TestSeeCaptureFile(t *testing.T) {
	t.Parallel()
	const rounds, burst = 30, 20
	l := newLab(t, 0)
	vs := l.vteps(4)
	n := l.node("learning = known", "capture_rate = 100000", markerConfig(vs...),
		memberConfig([]vxlan.VNI{seeVNI, seeVNI + 1}, vs[:3]...), fmt.Sprintf("vtep_membership = 198.51.100.1 %d", seeVNI))
	const count = rounds*(burst-1) + 1
	c := n.ctl("capture", seeVNI.String(), "-w", n.file("x.pcapng"), "-c", fmt.Sprint(count))
	n.waitFor("the capture", func() bool {
		s, err := os.Stat(n.file("x.pcapng"))
		return err == nil && s.Size() > 0
	})
	var want []saved
	packets := 0
	for round := range rounds {
		var ds []netlab.Datagram
		for i := range burst {
			in := frame(netlab.Broadcast, packets, 64+i*60)
			packets++
			d, verdict := vs[0].packet(n, seeVNI, in), "2 copies, 1 unreachable"
			switch i {
			case 3:
				d.TTL, verdict = 1, "dropped: ttl"
			case 5:
				d = vs[0].packet(n, seeVNI+1, in)
				verdict = ""
			}
			ds = append(ds, d)
			if verdict != "" {
				want = append(want, saved{d.Src, d.TTL, seeVNI, in, verdict})
			}
		}
		vs[0].send(n, ds...)
		if round == rounds-1 { // one that is learned
			in := frame(netlab.Broadcast, packets, 64)
			vs[3].flood(n, seeVNI, in)
			want = append(want, saved{vs[3].packet(n, seeVNI, in).Src, 64, seeVNI, in, "3 copies, 1 unreachable, learned"})
		}
		vs[0].flush(n, vs[1:3]...)
	}
	vs[3].flush(n, vs[0])
	// It ends when it has them all.
	if status := must(c.Wait(within(t)))(t); status != 0 {
		t.Errorf("got status %d and %q, want 0", status, c.stderr)
	}
	got, missing := readFile(t, n.file("x.pcapng"))
	if missing != 0 {
		t.Errorf("got %d packets missing in the file, want none", missing)
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(saved{}), cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" {
		t.Errorf("packets of the file (-sent +saved)\n%.3000s", diff)
	}
	if !strings.Contains(c.stderr.String(), fmt.Sprintf("%d packets captured\n", count)) {
		t.Errorf("got %q, want how many packets there are", c.stderr)
	}
	// The copies are those that the verdicts tell of.
	for _, v := range vs[1:3] {
		if got := len(v.got()); got != packets+1-rounds {
			t.Errorf("%s: got %d copies, want %d", v.Name, got, packets+1-rounds)
		}
	}
}

// Above its rate a capture is a sample, and says how much is missing.
func TestSeeCaptureSample(t *testing.T) {
	t.Parallel()
	const packets, rate = 300, 10
	l := newLab(t, 0)
	vs := l.vteps(2)
	n := l.node("learning = off", fmt.Sprintf("capture_rate = %d", rate), markerConfig(vs...), memberConfig([]vxlan.VNI{seeVNI}, vs...))
	vni := uint32(seeVNI)
	e := n.stream(control.CommandCapture, control.CaptureArgs{VNI: vni, Snap: 20})
	for i := 0; i < packets; i += 50 {
		var fs [][]byte
		for j := range 50 {
			fs = append(fs, frame(netlab.Broadcast, i+j, 100))
		}
		vs[0].flood(n, seeVNI, fs...)
		vs[0].flush(n, vs[1])
	}
	var took, lost int
	e.wait("all packets, or that they are missing", func(ps []json.RawMessage) bool {
		took, lost = 0, 0
		for _, p := range ps {
			var c control.CaptureEvent
			check(t, json.Unmarshal(p, &c))
			took += len(c.Packets)
			if c.Lost != nil {
				lost += int(*c.Lost)
			}
			for _, p := range c.Packets {
				if len(p.Payload) != 20 || p.Length != 108 || p.Copies != 1 {
					t.Errorf("got %+v, want 20 of 108 bytes and one copy", p)
				}
			}
		}
		return took+lost >= packets
	})
	if took+lost != packets || took == 0 || took > packets/2 {
		t.Errorf("got %d packets and %d that are missing, want a sample of %d", took, lost, packets)
	}
	if got := len(vs[1].got()); got != packets {
		t.Errorf("got %d copies, want %d", got, packets)
	}
}

// What explain says is what happens: to copies at the far ends, and to those that
// are dropped.
func TestSeeExplainIsTrue(t *testing.T) {
	t.Parallel()
	const vtep6 = "2001:db8::9"
	l := newLab(t, 0)
	vs := l.vteps(4)
	n := l.idle()
	check(t, n.AddRoute(netlab.Route{To: netip.MustParsePrefix("203.0.113.0/24"), Kind: netlab.Blackhole}))
	others := strings.Join([]string{"198.51.100.1", "203.0.113.1", nodeAddr, "192.0.2.253", vtep6}, fmt.Sprintf(" %d\nvtep_membership = ", seeVNI))
	n.start("workers = 1", "learning = off", "oversize = drop", "capture_rate = 100000", "svcnode_peers = 192.0.2.253", "sync_timeout = 1",
		markerConfig(vs...), memberConfig([]vxlan.VNI{seeVNI}, vs[:3]...), fmt.Sprintf("vtep_membership = %s %d", others, seeVNI))
	captured := n.stream(control.CommandCapture, control.CaptureArgs{VNI: uint32(seeVNI)})
	for i, tt := range []struct {
		name   string
		from   *machine
		ttl    uint8
		length int
	}{
		{"a member", vs[0], 64, 100},
		{"nobody", vs[3], 64, 100},
		{"no TTL left", vs[0], 1, 100},
		{"larger than the MTU", vs[0], 64, 1480},
	} {
		t.Run(tt.name, func(t *testing.T) {
			said := decoded[struct {
				control.Explanation
				Destinations []control.ExplainedDestination `json:"destinations"`
			}](n, "explain", seeVNI.String(), tt.from.addr.String(), "--ttl", fmt.Sprint(tt.ttl), "--length", fmt.Sprint(tt.length))
			for _, v := range vs {
				v.forget()
			}
			d := tt.from.packet(n, seeVNI, frame(netlab.Broadcast, i, tt.length))
			d.TTL = tt.ttl
			if tt.length > 1400 {
				check(t, tt.from.AddNeighbour("eth0", n.addr, n.mac))
				tt.from.sendLarge(d)
			} else {
				tt.from.send(n, d)
			}
			tt.from.flush(n, vs...)

			var packet control.Captured
			captured.wait("the packet", func(ps []json.RawMessage) bool {
				var all []control.Captured
				for _, p := range ps {
					var c control.CaptureEvent
					check(t, json.Unmarshal(p, &c))
					all = append(all, c.Packets...)
				}
				if len(all) > i {
					packet = all[i]
				}
				return len(all) > i
			})
			drops := make(map[string]uint32)
			var copied []netip.Addr
			for _, e := range said.Destinations {
				switch {
				case e.Copy:
					copied = append(copied, e.Address)
				case said.Flooded && e.Rule != "sender" && e.Rule != "own" && e.Rule != "service_node":
					drops[e.Rule]++
				}
			}
			if packet.CopyDrops == nil {
				packet.CopyDrops = make(map[string]uint32)
			}
			if packet.Copies != said.Copies || len(copied) != said.Copies || !cmp.Equal(drops, packet.CopyDrops) {
				t.Errorf("got %d copies to %v and drops %v, want what the capture has: %d, %v", said.Copies, copied, drops, packet.Copies, packet.CopyDrops)
			}
			if said.Flooded != (tt.ttl > 1) {
				t.Errorf("got flooded %t with TTL %d", said.Flooded, tt.ttl)
			}
			if said.Flooded != (packet.Drop == "") || !said.Flooded && said.Rule != packet.Drop {
				t.Errorf("got flooded %t, rule %s, want what the capture has: %q", said.Flooded, said.Rule, packet.Drop)
			}
			for _, v := range vs {
				if got, want := len(v.got()) > 0, slices.Contains(copied, v.addr); got != want {
					t.Errorf("%s: got a copy: %t, want %t", v.Name, got, want)
				}
			}
			if len(said.Destinations) != 8 || !bytes.Equal(packet.Payload, d.Payload) {
				t.Errorf("got %d destinations and %d bytes, want 8 and %d", len(said.Destinations), len(packet.Payload), len(d.Payload))
			}
		})
	}
}
