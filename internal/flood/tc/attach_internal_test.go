// SPDX-License-Identifier: Apache-2.0

package tc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"vxsnd/internal/netlab"
	"vxsnd/internal/vxlan"
)

// hooks are the ways to put the program into the ingress hook.
var hooks = []struct {
	name   string
	attach func(*kernel, int) (attachment, error)
}{
	{"tcx", (*kernel).attach},
	{"clsact", (*kernel).attachFilter},
}

// A site is a rig whose program works on eth0, with one other member; and the
// socket of raw, as it were.
//
//	far --- eth0 node (service on lo)
type site struct {
	*rig
	attachment
	copies *netlab.Capture
	raw    *net.UDPConn
}

func newSite(t testing.TB, attach func(*kernel, int) (attachment, error)) *site {
	t.Helper()
	s := &site{rig: newRig(t)}
	s.vni(replicated, wideMTU, to(sender, good), to(other, good))
	check(t, s.node.AddAddr("lo", netip.PrefixFrom(service, 32)))
	check(t, s.node.AddAddr("eth0", netip.PrefixFrom(sender.Next(), 24)))
	var err error
	s.raw, err = s.node.ListenUDP(netip.AddrPortFrom(service, vxlan.Port))
	check(t, err)
	t.Cleanup(func() { s.raw.Close() })
	s.copies, err = s.far.Capture("eth0")
	check(t, err)
	s.put(attach)
	return s
}

// put attaches the program to eth0.
func (s *site) put(attach func(*kernel, int) (attachment, error)) {
	s.Helper()
	check(s, s.node.Do(func() (err error) {
		s.attachment, err = attach(s.kernel, s.eth0.Index)
		return err
	}))
}

// frame returns a packet to eth0 that differs from others by a number, and is of a
// flow of its own.
func (s *site) frame(number int, change ...func(*netlab.Datagram)) []byte {
	b := frame(replicated, 64, append(change, func(d *netlab.Datagram) {
		d.Src = netip.AddrPortFrom(d.Src.Addr(), uint16(sentPort+number))
		d.Payload[len(d.Payload)-1] = byte(number)
	})...)
	copy(b, s.eth0.MAC)
	return b
}

// sent sends a packet and tells who got it: the other member, or raw.
func (s *site) sent(number int, change ...func(*netlab.Datagram)) (who string) {
	s.Helper()
	check(s, s.far.Send("eth0", s.frame(number, change...)))
	return s.taker(number)
}

// taker tells who gets a packet that was sent.
func (s *site) taker(number int) (who string) {
	s.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	b := make([]byte, 2000)
	check(s, netlab.Wait(ctx, "a packet", func() bool {
		ps, err := s.copies.Packets(func(p *netlab.Packet) bool {
			return p.DstPort == vxlan.Port && p.Payload[len(p.Payload)-1] == byte(number)
		})
		check(s, err)
		if len(ps) > 1 {
			s.Fatalf("got %d copies, want 1", len(ps))
		}
		if len(ps) == 1 {
			who = "member"
			return true
		}
		check(s, s.raw.SetReadDeadline(time.Now().Add(time.Millisecond)))
		n, err := s.raw.Read(b)
		if n > 0 && b[n-1] == byte(number) {
			who = "raw"
			return true
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			check(s, err)
		}
		return false
	}))
	return who
}

// here tells whether the program is attached.
func (s *site) here() (here bool) {
	s.Helper()
	check(s, s.node.Do(func() (err error) {
		here, err = s.present()
		return err
	}))
	return here
}

func (s *site) expect(number int, want string, change ...func(*netlab.Datagram)) {
	s.Helper()
	if got := s.sent(number, change...); got != want {
		s.Errorf("packet %d: got %s, want %s", number, got, want)
	}
}

func ttl(n uint8) func(*netlab.Datagram) { return func(d *netlab.Datagram) { d.TTL = n } }

func TestAttachAndDetach(t *testing.T) {
	for _, h := range hooks {
		t.Run(h.name, func(t *testing.T) {
			s := newSite(t, h.attach)
			if s.how != h.name {
				t.Errorf("got %s, want %s", s.how, h.name)
			}
			s.expect(1, "member")
			s.expect(2, "raw", ttl(1))
			s.settings.Lease = now(t)
			s.expect(3, "raw")
			s.settings.Lease = forever
			s.expect(4, "member")
			if !s.here() {
				t.Error("got absent, want present")
			}
			check(t, s.node.Do(s.detach))
			s.expect(5, "raw")
			if s.how == "clsact" && s.here() {
				t.Error("got present, want absent")
			}
			check(t, s.node.Do(s.detach))
			s.put(h.attach)
			s.expect(6, "member")
			check(t, s.node.Do(s.detach))
		})
	}
}

func TestDeviceGoes(t *testing.T) {
	for _, h := range hooks {
		t.Run(h.name, func(t *testing.T) {
			s := newSite(t, h.attach)
			check(t, s.node.DeleteLink("eth0"))
			if s.here() {
				t.Error("got present, want absent")
			}
			check(t, s.node.Do(s.detach))
			err := s.node.Do(func() error { _, err := h.attach(s.kernel, s.eth0.Index); return err })
			if !errors.Is(err, unix.ENODEV) {
				t.Errorf("got %v, want ENODEV", err)
			}
		})
	}
}

func TestSomebodyDetaches(t *testing.T) {
	t.Run("tcx", func(t *testing.T) {
		s := newSite(t, hooks[0].attach)
		check(t, s.node.Do(func() error {
			q, err := link.QueryPrograms(link.QueryOptions{Target: s.eth0.Index, Attach: ebpf.AttachTCXIngress})
			if err != nil {
				return err
			}
			id, _ := q.Programs[0].LinkID()
			l, err := link.NewFromID(id)
			if err != nil {
				return err
			}
			return errors.Join(l.(interface{ Detach() error }).Detach(), l.Close())
		}))
		if s.here() {
			t.Error("got present, want absent")
		}
		s.expect(1, "raw")
	})
	t.Run("clsact", func(t *testing.T) {
		s := newSite(t, hooks[1].attach)
		check(t, s.node.Do(func() error {
			return netlink.QdiscDel(&netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{
				LinkIndex: s.eth0.Index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT,
			}})
		}))
		if s.here() {
			t.Error("got present, want absent")
		}
		s.expect(1, "raw")
		check(t, s.node.Do(s.detach))
	})
}

// A packet counter is a program that lets all packets by.
type packetCounter struct {
	*ebpf.Program
	counts *ebpf.Map
}

func newPacketCounter(t *testing.T) packetCounter {
	t.Helper()
	m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1})
	check(t, err)
	t.Cleanup(func() { m.Close() })
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, License: "GPL", Instructions: asm.Instructions{
		asm.StoreImm(asm.RFP, -4, 0, asm.Word),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, -4),
		asm.LoadMapPtr(asm.R1, m.FD()),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, "out"),
		asm.Mov.Imm(asm.R1, 1),
		asm.StoreXAdd(asm.R0, asm.R1, asm.DWord),
		asm.Mov.Imm(asm.R0, -1).WithSymbol("out"),
		asm.Return(),
	}})
	check(t, err)
	t.Cleanup(func() { p.Close() })
	return packetCounter{p, m}
}

func (c packetCounter) count(t *testing.T) (n uint64) {
	t.Helper()
	check(t, c.counts.Lookup(uint32(0), &n))
	return n
}

// Other programs at the hook see what they saw: those before ours all packets,
// those behind what goes up. None is replaced.
func TestOtherProgramsGoOn(t *testing.T) {
	for _, h := range hooks {
		t.Run(h.name, func(t *testing.T) {
			front, behind := newPacketCounter(t), newPacketCounter(t)
			s := newSite(t, func(k *kernel, index int) (attachment, error) {
				if err := addProgram(t, h.name, index, front, 0); err != nil {
					return attachment{}, err
				}
				return h.attach(k, index)
			})
			check(t, s.node.Do(func() error { return addProgram(t, h.name, s.eth0.Index, behind, 0xfff0) }))
			before, beyond := front.count(t), behind.count(t)
			s.expect(1, "member")
			s.expect(2, "raw", ttl(1))
			// Neighbours of the node may speak at any time: at least these.
			f, b := front.count(t)-before, behind.count(t)-beyond
			if f < 2 || b != f-1 {
				t.Errorf("got %d packets before and %d behind, want 2 and 1 at least", f, b)
			}
			check(t, s.node.Do(s.detach))
			before, beyond = front.count(t), behind.count(t)
			s.expect(3, "raw")
			if f, b := front.count(t)-before, behind.count(t)-beyond; f == 0 || f != b {
				t.Errorf("got %d packets before and %d behind, want the same", f, b)
			}
		})
	}
}

// addProgram puts another program into the hook: with priority 0 where tc(8)
// puts it by itself.
func addProgram(t *testing.T, how string, index int, c packetCounter, priority uint16) error {
	if how == "tcx" {
		l, err := link.AttachTCX(link.TCXOptions{Interface: index, Program: c.Program, Attach: ebpf.AttachTCXIngress})
		if err == nil {
			t.Cleanup(func() { l.Close() })
		}
		return err
	}
	err := netlink.QdiscAdd(&netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{
		LinkIndex: index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT,
	}})
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return err
	}
	return netlink.FilterAdd(&netlink.BpfFilter{
		FilterAttrs: netlink.FilterAttrs{
			LinkIndex: index, Parent: netlink.HANDLE_MIN_INGRESS, Priority: priority, Protocol: unix.ETH_P_ALL,
		},
		Fd: c.FD(), Name: "counter", DirectAction: true,
	})
}

// attachIn is the environment variable by which a test has its program run again,
// to attach in its namespace and be killed.
const attachIn = "VXSND_TEST_ATTACH"

// TestChildAttaches is no test where no other runs it.
func TestChildAttaches(t *testing.T) {
	var hook, index int
	if _, err := fmt.Sscan(os.Getenv(attachIn), &hook, &index); err != nil {
		return
	}
	k, err := load(16)
	check(t, err)
	check(t, k.setVNI(1, 0))
	_, err = k.grow()
	check(t, err)
	a, err := hooks[hook].attach(k, index)
	check(t, err)
	defer a.detach()
	info, err := k.objects.Flood.Info()
	check(t, err)
	id, _ := info.ID()
	fmt.Printf("\nattached %d\n", id)
	select {}
}

func TestKilled(t *testing.T) {
	for i, h := range hooks {
		t.Run(h.name, func(t *testing.T) {
			r := newRig(t)
			exe, err := os.Executable()
			check(t, err)
			cmd := exec.Command(exe, "-test.run=^TestChildAttaches$", "-test.v")
			cmd.Env = append(os.Environ(), attachIn+"="+strconv.Itoa(i)+" "+strconv.Itoa(r.eth0.Index))
			p, err := r.node.Start(cmd)
			check(t, err)
			ctx, cancel := context.WithTimeout(context.Background(), deadline)
			defer cancel()
			var id ebpf.ProgramID
			_, err = p.WaitLine(ctx, func(l string) bool { n, _ := fmt.Sscanf(l, "attached %d", &id); return n == 1 })
			check(t, err)
			check(t, p.Signal(unix.SIGKILL))
			<-p.Done()
			there := func() bool {
				prog, err := ebpf.NewProgramFromID(id)
				if err == nil {
					prog.Close()
				}
				return !errors.Is(err, os.ErrNotExist)
			}
			if h.name == "clsact" {
				if !there() {
					t.Error("got no program left behind, want one: nothing is tried here")
				}
				check(t, r.node.Do(func() error {
					a, err := h.attach(r.kernel, r.eth0.Index)
					if err != nil {
						return err
					}
					all, err := filters(r.eth0.Index, func(*netlink.BpfFilter) bool { return true })
					if err != nil || len(all) != 1 {
						return fmt.Errorf("got filters %v, %w, want one", all, err)
					}
					if err := a.detach(); err != nil {
						return err
					}
					if removed, err := removeLeft(r.eth0.Index); removed || err != nil {
						return fmt.Errorf("got removed %v, %w, want nothing to remove", removed, err)
					}
					return nil
				}))
			}
			check(t, netlab.Wait(ctx, "the program to go", func() bool { return !there() }))
		})
	}
}
