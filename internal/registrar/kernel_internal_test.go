// SPDX-License-Identifier: Apache-2.0

package registrar

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vxsnd/internal/config"
	"vxsnd/internal/netlab"
	"vxsnd/internal/startup"
	"vxsnd/internal/underlay"
	"vxsnd/internal/vxfld"
	"vxsnd/internal/vxlan"
)

//	machine                       node
//	vxlan10, vxlan11
//	10.0.0.1/24 eth0 ---------- eth0 10.0.0.100/24
//
// The registrar is in machine, and its service node, which is the test, in node.
type kernelLab struct {
	t             *testing.T
	lab           *netlab.Lab
	machine, node *netlab.Namespace
	service       *net.UDPConn
	cfg           config.Config
}

func newKernelLab(t *testing.T) *kernelLab {
	l := &kernelLab{t: t, lab: netlab.Test(t), cfg: testConfig("10.0.0.100")}
	l.cfg.StateFile = filepath.Join(t.TempDir(), "vxrd.state")
	var err error
	if l.machine, err = l.lab.Namespace("machine"); err != nil {
		t.Fatal(err)
	}
	if l.node, err = l.lab.Namespace("node"); err != nil {
		t.Fatal(err)
	}
	l.must(netlab.Veth(l.machine, "eth0", l.node, "eth0", 0))
	l.must(l.machine.AddAddr("eth0", netip.MustParsePrefix("10.0.0.1/24")))
	l.must(l.node.AddAddr("eth0", netip.MustParsePrefix("10.0.0.100/24")))
	l.service, err = l.node.ListenUDP(netip.MustParseAddrPort("10.0.0.100:10001"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.service.Close() })
	return l
}

func (l *kernelLab) must(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
}

// start runs a registrar. Its addresses are the test's to tell: who follows them
// opens sockets in a goroutine of its own, which is not in the namespace.
func (l *kernelLab) start() (stop func(cause error)) {
	l.t.Helper()
	r, err := New(l.cfg, nil)
	l.must(err)
	if err := l.machine.Do(func() error { return r.Listen(context.Background()) }); err != nil {
		_ = r.Close()
		l.t.Fatal(err)
	}
	r.addresses.Close()
	r.addresses = newSource(addrs("10.0.0.1"))
	ctx, cancel := context.WithCancelCause(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	return func(cause error) {
		l.t.Helper()
		cancel(cause)
		if err := <-ended; err != nil {
			l.t.Errorf("Run: got %v", err)
		}
		if err := r.Close(); err != nil {
			l.t.Errorf("Close: got %v", err)
		}
	}
}

// registration waits for a message that names a VNI and has it in force or not,
// and answers it with these members if it asks.
func (l *kernelLab) registration(vni vxlan.VNI, inForce bool, members ...string) {
	l.t.Helper()
	l.must(l.service.SetReadDeadline(time.Now().Add(time.Minute)))
	b := make([]byte, readBuffer)
	for {
		n, from, err := l.service.ReadFromUDPAddrPort(b)
		l.must(err)
		m, err := vxfld.Parse(b[:n])
		l.must(err)
		r := m.Body.(*vxfld.Refresh)
		if want := netip.MustParseAddrPort("10.0.0.1:10001"); from != want {
			l.t.Fatalf("got a message from %s, want %s", from, want)
		}
		if !slices.ContainsFunc(r.VNIs, func(v vxfld.VNIMembers) bool { return v.VNI == vni }) || inForce != (r.Holdtime > 0) {
			continue
		}
		if len(members) > 0 {
			a := encode(l.t, vxfld.V3, &vxfld.Refresh{Holdtime: 90, VNIs: []vxfld.VNIMembers{{VNI: vni, Addrs: addrs(members...)}}})
			_, err = l.service.WriteToUDPAddrPort(a, from)
			l.must(err)
		}
		return
	}
}

// flooded waits until the device has these destinations for what it floods.
func (l *kernelLab) flooded(dev string, want ...string) {
	l.t.Helper()
	var got []string
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := netlab.Wait(ctx, "flood entries", func() bool {
		got = nil
		es, err := l.machine.FDB(dev)
		l.must(err)
		for _, e := range es {
			if strings.Trim(e.MAC.String(), "0:") == "" {
				got = append(got, e.VTEP.String())
			}
		}
		slices.Sort(got)
		return slices.Equal(got, want)
	}); err != nil {
		l.t.Fatalf("%s: got %v, want %v", dev, got, want)
	}
}

func TestWithTheKernel(t *testing.T) {
	l := newKernelLab(t)
	vxlanOf := func(vni uint32) netlab.VXLAN { return netlab.VXLAN{VNI: vni, Local: addr("10.0.0.1")} }
	l.must(l.machine.AddVXLAN("vxlan10", vxlanOf(10)))
	stop := l.start()
	l.registration(10, true, "10.0.0.1", "10.0.0.2", "10.0.0.3")
	l.flooded("vxlan10", "10.0.0.2", "10.0.0.3")

	begin := time.Now()
	l.must(l.machine.AddVXLAN("vxlan11", vxlanOf(11)))
	l.registration(11, true, "10.0.0.1", "10.0.0.4")
	t.Logf("a new device is registered after %v", time.Since(begin))
	l.flooded("vxlan11", "10.0.0.4")

	stop(ErrRestart)
	l.flooded("vxlan10", "10.0.0.2", "10.0.0.3")
	l.must(l.machine.SetDown("vxlan11"))
	stop = l.start()
	l.registration(10, true, "10.0.0.1", "10.0.0.3", "10.0.0.5")
	l.flooded("vxlan10", "10.0.0.3", "10.0.0.5")
	l.flooded("vxlan11", "10.0.0.4")
	l.must(l.machine.SetUp("vxlan11"))
	l.registration(11, true, "10.0.0.1", "10.0.0.6")
	l.flooded("vxlan11", "10.0.0.6")
	l.must(l.machine.DeleteLink("vxlan11"))
	l.registration(11, false)

	stop(nil)
	l.registration(10, false)
	l.flooded("vxlan10")
}

func TestSecondRegistrarIsRefused(t *testing.T) {
	l := newKernelLab(t)
	defer l.start()(nil)
	second, err := New(l.cfg, nil)
	l.must(err)
	err = l.machine.Do(func() error { return second.Listen(context.Background()) })
	if !errors.Is(err, startup.ErrBind) || !strings.Contains(startup.Hint(err), "ss -ulnp") {
		t.Errorf("got %v, want ErrBind with a hint", err)
	}
	if err := second.Close(); err != nil {
		t.Errorf("close: got %v", err)
	}
}

func TestCleanup(t *testing.T) {
	l := newKernelLab(t)
	l.must(l.machine.AddVXLAN("vxlan10", netlab.VXLAN{VNI: 10, Local: addr("10.0.0.1")}))
	stop := l.start()
	l.registration(10, true, "10.0.0.1", "10.0.0.2", "10.0.0.3")
	l.flooded("vxlan10", "10.0.0.2", "10.0.0.3")
	stop(ErrRestart) // leaves what a crash leaves
	var removed int
	l.must(l.machine.Do(func() (err error) {
		removed, err = Cleanup(l.cfg)
		return err
	}))
	if removed != 2 {
		t.Errorf("got %d entries removed, want 2", removed)
	}
	l.flooded("vxlan10")
}

// Without head-end replication nobody looks after flood entries of an earlier run.
func TestRemovesEntriesOfEarlierRun(t *testing.T) {
	l := newKernelLab(t)
	l.must(l.machine.AddVXLAN("vxlan10", netlab.VXLAN{VNI: 10, Local: addr("10.0.0.1")}))
	stop := l.start()
	l.registration(10, true, "10.0.0.1", "10.0.0.2", "10.0.0.3")
	l.flooded("vxlan10", "10.0.0.2", "10.0.0.3")
	stop(ErrRestart)
	l.cfg.HeadRep = false

	r, err := New(l.cfg, nil)
	l.must(err)
	l.must(l.machine.Do(func() error {
		had := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		caps := make([]unix.CapUserData, 2)
		if err := unix.Capget(&had, &caps[0]); err != nil {
			return err
		}
		less := slices.Clone(caps)
		less[0].Effective &^= 1 << unix.CAP_NET_ADMIN
		if err := unix.Capset(&had, &less[0]); err != nil {
			return err
		}
		return errors.Join(r.Listen(context.Background()), unix.Capset(&had, &caps[0]))
	}))
	if got := r.warningsLocked(time.Now()); len(got) != 1 || got[0] != "2 "+leftText {
		t.Errorf("without privilege: got warnings %q, want one of 2 entries", got)
	}
	l.must(r.Close())
	l.flooded("vxlan10", "10.0.0.2", "10.0.0.3")

	stop = l.start()
	l.flooded("vxlan10")
	stop(nil)
}

// Who may not program flood entries is told so at the start.
func TestProgrammingNeedsPrivilege(t *testing.T) {
	got := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		h := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		if err := unix.Capset(&h, &make([]unix.CapUserData, 2)[0]); err != nil {
			got <- err
			return
		}
		fdb, err := underlay.OpenFDB()
		if err == nil {
			defer fdb.Close()
			err = mayProgram(fdb)
		}
		got <- err
	}()
	if err := <-got; !errors.Is(err, errProgram) {
		t.Errorf("got %v, want %v", err, errProgram)
	}
}

func TestExplains(t *testing.T) {
	c := testConfig("10.0.0.100")
	c.VRF = "red"
	r, err := New(c, nil)
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		err  error
		kind error
		hint string
	}{
		{"port in use", unix.EADDRINUSE, startup.ErrBind, "ss -ulnp"},
		{"no descriptors", unix.EMFILE, startup.ErrBind, "ulimit -n"},
		{"may not program", errors.Join(errProgram, unix.EPERM), startup.ErrPrivilege, "head_rep = no"},
		{"may not open", unix.EPERM, startup.ErrPrivilege, "root"},
		{"anything else", unix.EINVAL, startup.ErrBind, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := r.explain(tt.err)
			if !errors.Is(err, tt.kind) || !errors.Is(err, tt.err) || !strings.Contains(startup.Hint(err), tt.hint) {
				t.Errorf("got %v with hint %q, want %v with %q", err, startup.Hint(err), tt.kind, tt.hint)
			}
		})
	}
	if got := startup.Hint(r.explainVRF(errors.New("vrf red: there is no such device"))); !strings.Contains(got, "vrf") {
		t.Errorf("got hint %q", got)
	}
}

var (
	_ deviceSource  = (*underlay.Devices)(nil)
	_ addressSource = (*underlay.Underlay)(nil)
)
