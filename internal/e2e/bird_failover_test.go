// SPDX-License-Identifier: Apache-2.0

package e2e

// What a group of nodes behind BIRD promises: newSite has the lab.

import (
	"fmt"
	"maps"
	"net/netip"
	"os/exec"
	"slices"
	"syscall"
	"testing"
	"time"

	"vxsnd/internal/netlab"
	"vxsnd/internal/vxfld"
	"vxsnd/internal/vxlan"
)

// With routes to all nodes VTEPs reach each other by whichever node each of
// their flows comes to.
func TestAnycastGroup(t *testing.T) {
	t.Parallel()
	for name, proto := range map[string]routing{"OSPF": ospf, "BGP": bgp(0)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, proto, func(int) []string { return []string{steady} })
			began := time.Now()
			s.start(1, 2, 3)
			s.waitHops(1, 2, 3)
			t.Logf("three routes after %v", time.Since(began).Round(time.Millisecond))
			s.register()
			for _, a := range s.guests {
				for _, b := range s.guests {
					if a.addr != b.addr {
						must(a.Ping(within(t), b.addr, 1000))(t)
					}
				}
			}
			for _, a := range s.guests {
				for _, b := range s.guests {
					if a.addr == b.addr {
						continue
					}
					if got := a.learned(t, birdVNI, b.mac); got != b.vtep.addr {
						t.Errorf("%s has %s behind %s, want %s", a.vtep.Name, b.addr, got, b.vtep.addr)
					}
				}
			}
			// Flows of all kinds are shared.
			for _, c := range s.caps {
				check(t, c.Reset())
			}
			const flows = 100
			for f := range flows {
				check(t, s.guests[0].Send(s.guests[0].dev, netlab.Datagram{
					Src: netip.AddrPortFrom(s.guests[0].addr, uint16(20000+f)),
					Dst: netip.MustParseAddrPort("10.0.0.255:9"), TTL: 1,
				}.Frame(netlab.Broadcast, s.guests[0].mac)))
			}
			for i := 2; i <= 3; i++ {
				ps := must(s.caps[i-1].Wait(within(t), flows, func(p *netlab.Packet) bool { return p.UDPTo(9) }))(t)
				seen := make(map[uint16]int)
				for _, p := range ps {
					seen[p.SrcPort]++
				}
				if len(ps) != flows || len(seen) != flows {
					t.Errorf("VTEP %d: got %d packets of %d flows, want one of each of %d", i, len(ps), len(seen), flows)
				}
			}
			for _, n := range s.nodes {
				packets := n.status().Packets
				t.Logf("%s flooded %d packets", n.Name, packets)
				if packets == 0 {
					t.Errorf("%s: got no packets, want a share", n.Name)
				}
			}
		})
	}
}

// A process that dies or stops while its machine and routing daemon live on
// loses the address, and VTEPs are moved to other nodes. Each member is still
// reached, although one has registered with that node alone.
func TestAnycastFailover(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		proto  routing
		signal syscall.Signal
	}{
		{"killed, BGP", bgp(10), syscall.SIGKILL},
		{"killed, OSPF", ospf, syscall.SIGKILL},
		{"stopped, BGP", bgp(10), syscall.SIGSTOP},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, tt.proto, func(int) []string { return []string{"drain_time = 1"} })
			s.start(1, 2, 3)
			all := s.waitAnnounced()
			s.register()
			dead := s.registeredWith(s.agents[2])
			var rest []int
			for i := 1; i <= 3; i++ {
				if i != dead {
					rest = append(rest, i)
				}
			}
			st := s.stream()
			st.wait()
			n := s.nodes[dead-1]
			if tt.signal == syscall.SIGKILL {
				n.end(tt.signal)
			} else {
				n.signal(tt.signal)
			}
			began := time.Now()
			n.waitService(false)
			gone := time.Since(began)
			t.Logf("all flows reach each member %v after the node was %s; the address was gone after %v", (gone + st.wait()).Round(time.Millisecond), tt.name, gone.Round(time.Millisecond))
			for _, i := range s.hops() {
				if !slices.Contains(rest, i) {
					t.Errorf("got a route to node %d, want none", i)
				}
			}
			// Registrations go elsewhere too, and an answer has all members.
			for _, a := range s.agents {
				if got := a.ask(birdVNI)[birdVNI]; len(got) != 3 {
					t.Errorf("got members %v of another node, want three", got)
				}
			}
			if tt.signal == syscall.SIGKILL {
				s.start(dead)
			} else {
				n.signal(syscall.SIGCONT)
				n.waitLines(msgExpired, 1)
			}
			s.waitHops(all...)
			st.wait()
			st.settle()
			s.waitMembers()
			for _, a := range s.agents {
				a.silent()
			}
			s.register()
		})
	}
}

// Nodes that are restarted one after the other, as docs/operations.md says, hand
// over without the loss of a packet, and take over without one.
func TestAnycastHandover(t *testing.T) {
	t.Parallel()
	for name, proto := range map[string]routing{"OSPF": ospf, "BGP": bgp(10)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, proto, func(int) []string { return []string{steady} })
			s.start(1, 2, 3)
			all := s.waitAnnounced()
			s.register()
			dropped := must(netlab.BacklogDrops())(t)
			st := s.stream()
			st.wait()
			for i, n := range s.nodes {
				began := time.Now()
				n.signal(syscall.SIGTERM)
				check(t, netlab.Wait(within(t), "no route to the node", func() bool { return !slices.Contains(s.hops(), i+1) }))
				t.Logf("%s: routes moved %v after the signal", n.Name, time.Since(began).Round(time.Millisecond))
				n.ended = append(n.ended, n.proc)
				if status := must(n.proc.Wait(within(t)))(t); status != 0 {
					t.Errorf("%s: got status %d, want 0", n.Name, status)
				}
				s.start(i + 1)
				s.waitHops(all...)
				st.wait()
			}
			missing := st.settle()
			// What an overloaded machine drops on its way, no node can lose.
			dropped = must(netlab.BacklogDrops())(t) - dropped
			if slices.Max(missing) > dropped {
				t.Errorf("got %v packets missing, want none but the %d that the machine dropped", missing, dropped)
			}
		})
	}
}

// A node that is started announces itself once it holds the whole table, and not
// before.
func TestAnycastAnnouncedWithTable(t *testing.T) {
	t.Parallel()
	const vnis = 2000
	// What sn2 and sn3 have as static members, sn1 has from them alone.
	statics := func(i int) []string {
		var out []string
		for a := range 10 {
			addr := netip.AddrFrom4([4]byte{10, 9, byte(i), byte(a + 1)})
			line := "vtep_membership = " + addr.String()
			for v := range vnis {
				line += fmt.Sprint(" ", 1000+v)
			}
			out = append(out, line)
		}
		return out
	}
	s := newSite(t, bgp(10), func(i int) []string {
		if i == 1 {
			return []string{steady, "drain_time = 1"}
		}
		return append(statics(i), steady, "drain_time = 1")
	})
	s.start(1, 2, 3)
	s.waitHops(1)
	s.register()
	const want = 2*10*vnis + 3
	for _, n := range s.nodes {
		check(t, netlab.Wait(within(t), "a whole table", func() bool { return n.status().Entries == want }))
	}
	for range 3 {
		s.nodes[0].end(syscall.SIGKILL)
		s.nodes[0].cleanup(0, "removed address ")
		s.waitHops(2)
		began := time.Now()
		s.start(1)
		s.nodes[0].waitService(true)
		if got := s.nodes[0].status().Entries; got != want {
			t.Errorf("got %d entries when the address came, want %d", got, want)
		}
		t.Logf("announced with %d entries after %v", want, time.Since(began).Round(time.Millisecond))
		s.waitHops(1)
	}
}

// Three nodes that are rebooted at once end with the same table: what each has of
// its own, and what VTEPs register at any time meanwhile.
func TestAnycastRebootAtOnce(t *testing.T) {
	t.Parallel()
	s := newSite(t, bgp(0), func(i int) []string {
		return []string{steady, "drain_time = 1", fmt.Sprintf("vtep_membership = 10.9.%d.1 7 8 9", i)}
	})
	s.start(1, 2, 3)
	s.waitAnnounced()
	s.register()
	const least = 3*3 + 3
	var tables []map[holding]bool
	same := func() bool {
		tables = tables[:0]
		for _, n := range s.nodes {
			tables = append(tables, n.held())
		}
		return len(tables[0]) >= least && maps.Equal(tables[0], tables[1]) && maps.Equal(tables[0], tables[2])
	}
	check(t, netlab.Wait(within(t), "the same table everywhere", same))

	for i, n := range s.nodes {
		n.end(syscall.SIGKILL)
		check(t, s.birds[i].Signal(syscall.SIGKILL))
		must(s.birds[i].Wait(within(t)))(t)
		s.birds[i] = nil
		check(t, ignore(n.DeleteAddr("lo", host(n.addr)), syscall.EADDRNOTAVAIL))
	}
	for i, n := range s.nodes {
		s.announce(i + 1)
		n.proc = n.launch(exec.Command(program(t)), s.config(i+1)...)
	}
	sent := 0
	check(t, netlab.Wait(within(t), "all nodes to be announced", func() bool {
		for i, a := range s.agents {
			sent++
			a.send(vxfld.V3, &vxfld.Refresh{
				Originator: true, Holdtime: 90, Identifier: uint64(i + 1),
				VNIs: []vxfld.VNIMembers{{VNI: vxlan.VNI(1000 + sent), Addrs: []netip.Addr{a.addr}}},
			})
		}
		return len(s.hops()) == 3
	}))
	for i, a := range s.agents {
		a.register(birdVNI, 90, uint64(i+1))
	}
	if err := netlab.Wait(within(t), "the same table everywhere", same); err != nil {
		for i, n := range s.nodes {
			t.Logf("%s: %v", n.Name, tables[i])
		}
		t.Fatal(err)
	}
	t.Logf("%d entries everywhere; %d registrations were sent during the reboot", len(tables[0]), sent)
	must(s.guests[0].Ping(within(t), s.guests[2].addr, 100))(t)
	for _, n := range s.nodes {
		n.stop()
	}
}
