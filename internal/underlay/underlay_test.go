// SPDX-License-Identifier: Apache-2.0

package underlay_test

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"vxsnd/internal/logging"
	"vxsnd/internal/netlab"
	"vxsnd/internal/underlay"
)

// A machine with two links, whose underlay is followed:
//
//	machine eth0 10.0.0.1/24 ──── other 10.0.0.2
type rig struct {
	machine, other *netlab.Namespace
	u              *underlay.Underlay
	changed        chan []netip.Addr
}

func newRig(t *testing.T) *rig {
	t.Helper()
	lab := netlab.Test(t)
	r := &rig{changed: make(chan []netip.Addr, 100)}
	var err error
	step := func(e error) {
		t.Helper()
		if e != nil {
			t.Fatal(e)
		}
	}
	r.machine, err = lab.Namespace("machine")
	step(err)
	r.other, err = lab.Namespace("other")
	step(err)
	step(netlab.Veth(r.machine, "eth0", r.other, "eth0", 0))
	step(r.machine.AddAddr("eth0", netip.MustParsePrefix("10.0.0.1/24")))
	step(r.other.AddAddr("eth0", netip.MustParsePrefix("10.0.0.2/24")))
	step(r.machine.Do(func() (err error) {
		r.u, err = underlay.Open("", logging.Discard())
		return err
	}))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() {
		// All that Run opens belongs to the machine.
		done <- r.machine.Do(func() error {
			return r.u.Run(ctx, func(a []netip.Addr) { r.changed <- a })
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
		r.u.Close()
	})
	return r
}

// want waits until the last addresses that were told are these.
func (r *rig) want(t *testing.T, want ...string) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	var got []string
	for {
		select {
		case list := <-r.changed:
			got = nil
			for _, a := range list {
				got = append(got, a.String())
			}
			if slices.Equal(got, want) {
				return
			}
		case <-deadline:
			t.Fatalf("got %v, want %v", got, want)
		}
	}
}

func TestAddressesAreFollowed(t *testing.T) {
	r := newRig(t)
	r.want(t, "10.0.0.1", "127.0.0.1", "::1")
	lo := netip.MustParsePrefix("192.0.2.1/32")
	if err := r.machine.AddAddr("lo", lo); err != nil {
		t.Fatal(err)
	}
	r.want(t, "10.0.0.1", "127.0.0.1", "192.0.2.1", "::1")
	if err := r.machine.DeleteAddr("lo", lo); err != nil {
		t.Fatal(err)
	}
	r.want(t, "10.0.0.1", "127.0.0.1", "::1")
	if err := r.machine.DeleteLink("eth0"); err != nil {
		t.Fatal(err)
	}
	r.want(t, "127.0.0.1", "::1")
}

func TestNeighboursThatDoNotResolve(t *testing.T) {
	r := newRig(t)
	r.want(t, "10.0.0.1", "127.0.0.1", "::1")
	if got := r.u.Unresolved(); got != nil {
		t.Errorf("at first: got %v, want none", got)
	}
	dead := netip.MustParseAddr("10.0.0.99")
	send := func(to string) {
		t.Helper()
		if err := r.machine.Do(func() error {
			c, err := net.Dial("udp4", to+":9")
			if err != nil {
				return err
			}
			defer c.Close()
			_, err = c.Write([]byte("x"))
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	send("10.0.0.2")
	send("10.0.0.99")
	// The kernel has only begun to resolve it and says nothing: it is seen
	// when it is looked for.
	r.u.Recheck(20 * time.Second)
	if _, ok := r.u.Unresolved()[dead]; !ok || len(r.u.Unresolved()) != 1 {
		t.Errorf("while it is tried: got %v, want %v alone", r.u.Unresolved(), dead)
	}
	// It comes to life.
	if err := r.other.AddAddr("eth0", netip.MustParsePrefix("10.0.0.99/24")); err != nil {
		t.Fatal(err)
	}
	wait(t, "the neighbour to resolve", func() bool {
		send("10.0.0.99")
		return r.u.Unresolved() == nil
	})
}

// A neighbour that fails is told of without being looked for.
func TestNeighbourThatFails(t *testing.T) {
	r := newRig(t)
	for key, value := range map[string]string{"retrans_time_ms": "10", "mcast_solicit": "1"} {
		if err := r.machine.SetSysctl("net.ipv4.neigh.eth0."+key, value); err != nil {
			t.Fatal(err)
		}
	}
	r.want(t, "10.0.0.1", "127.0.0.1", "::1")
	if err := r.machine.Do(func() error {
		c, err := net.Dial("udp4", "10.0.0.98:9")
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = c.Write([]byte("x"))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	wait(t, "the neighbour to fail", func() bool {
		_, ok := r.u.Unresolved()[netip.MustParseAddr("10.0.0.98")]
		return ok
	})
}

func wait(t *testing.T, what string, cond func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := netlab.Wait(ctx, what, cond); err != nil {
		t.Fatal(err)
	}
}

func TestVRFThatIsNone(t *testing.T) {
	lab := netlab.Test(t)
	ns, err := lab.Namespace("machine")
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"blue": "vrf blue: there is no such device", "lo": "vrf lo: not a VRF device"} {
		err := ns.Do(func() error {
			_, err := underlay.Open(name, logging.Discard())
			return err
		})
		if err == nil || err.Error() != want {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

// Without Run nobody answers, and nobody may wait for long.
func TestRecheckEnds(t *testing.T) {
	u, err := underlay.Open("", logging.Discard())
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	u.Recheck(time.Millisecond)
}
