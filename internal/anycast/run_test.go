// SPDX-License-Identifier: Apache-2.0

package anycast_test

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"vxsnd/internal/anycast"
)

func TestAddressIsRenewed(t *testing.T) {
	each(t, func(r *rig) {
		changes, done := make(chan netlink.AddrUpdate, 100), make(chan struct{})
		r.in(func() error { return netlink.AddrSubscribe(changes, done) })
		defer func() {
			close(done)
			for range changes {
			}
		}()
		// Longer than elsewhere: a busy machine is no reason for an expiry.
		const seconds = 6
		r.a = anycast.New(anycast.Options{Addr: r.addr, Lifetime: seconds * time.Second})
		stop := r.run()
		deadline := time.After(patience)
		for got := 0; got < seconds+2; {
			var c netlink.AddrUpdate
			select {
			case c = <-changes:
			case <-deadline:
				r.Fatalf("got %d renewals, want more", got)
			}
			if !c.LinkAddress.IP.Equal(r.addr.AsSlice()) {
				continue
			}
			if !c.NewAddr {
				r.Fatalf("got the address removed after %d renewals, want it kept", got)
			}
			if c.ValidLft != seconds || c.PreferedLft != seconds {
				r.Errorf("got lifetimes %d and %d, want %d s", c.ValidLft, c.PreferedLft, seconds)
			}
			if bits, _ := c.LinkAddress.Mask.Size(); bits != r.addr.BitLen() {
				r.Errorf("got %v, want the longest prefix", c.LinkAddress)
			}
			got++
		}
		st := r.a.State()
		if !st.Installed() || st.Owner != anycast.Ours || !st.Healthy || st.Health != nil || st.Err != nil || st.Since.IsZero() || st.Iface != "lo" {
			r.Errorf("got state %+v, want ours, healthy, without error", st)
		}
		stop()
		if !r.there() {
			r.Error("got no address after Run, want it left to Withdraw")
		}
	})
}

func TestAddressIsPutBack(t *testing.T) {
	each(t, func(r *rig) {
		r.run()
		r.waitThere()
		const often = 6 // more than are put back at once
		var atOnce, later int
		for range often {
			r.waitState("the address in the state", anycast.State.Installed)
			before := r.checked()
			r.removeAddr()
			r.waitThere()
			// Each renewal begins with a check.
			if r.checked() == before {
				atOnce++
			} else {
				later++
			}
		}
		if atOnce == 0 || later == 0 {
			r.Errorf("got it back %d times at once and %d times with a renewal, want both", atOnce, later)
		}
		r.wantLogged(logrus.WarnLevel, "service address was removed by somebody else: put back")
		if got := r.logged(logrus.WarnLevel, "service address was removed by somebody else: put back"); got != 1 {
			r.Errorf("got %d warnings, want 1 a minute", got)
		}
	})
}

func TestInterfaceGoesDown(t *testing.T) {
	each(t, func(r *rig) {
		s := r.serve()
		r.run()
		r.waitThere()
		r.wantAnswer(s)
		r.check(r.node.SetDown("lo"))
		r.waitState("an error", func(s anycast.State) bool { return s.Err != nil })
		r.check(r.node.SetUp("lo"))
		r.waitState("no error", func(s anycast.State) bool { return s.Err == nil && s.Installed() })
		r.wantAnswer(s)
	})
}

func TestAddressFollowsHealth(t *testing.T) {
	sick := errors.New("flood workers stalled")
	each(t, func(r *rig) {
		r.run()
		r.waitThere()
		r.setHealth(sick)
		r.waitGone()
		if got := r.checked(); got < 3 {
			r.Errorf("got the address taken away after %d bad results, want 3", got)
		}
		r.waitState("the health", func(s anycast.State) bool { return !s.Healthy && errors.Is(s.Health, sick) && !s.Installed() })
		r.wantLogged(logrus.WarnLevel, "not healthy: service address taken away")
		if got := r.routes(); len(got) != 0 {
			r.Errorf("got routes %v, want none", got)
		}
		r.setHealth(nil)
		r.waitThere()
		if got := r.checked(); got < 2 {
			r.Errorf("got the address back after %d good results, want 2", got)
		}
		r.wantLogged(logrus.InfoLevel, "healthy again")
	})
}

func TestNoAddressBeforeHealth(t *testing.T) {
	each(t, func(r *rig) {
		r.setHealth(errors.New("not yet"))
		r.run()
		r.wait("some checks", func() bool { return r.checked() > 2 || r.there() })
		if r.there() {
			r.Error("got an address, want none while the node is not healthy")
		}
		r.setHealth(nil)
		r.waitThere()
	})
}

func TestHealthCheckHangs(t *testing.T) {
	each(t, func(r *rig) {
		r.run()
		r.waitThere()
		hangs := make(chan struct{})
		r.setHang(hangs)
		r.waitGone()
		r.setHang(nil)
		close(hangs)
		r.waitThere()
		if got := r.checked(); got < 2 {
			r.Errorf("got the address back after %d good results, want 2", got)
		}
		r.wantLogged(logrus.WarnLevel, "service address expired: it was not renewed in time")
	})
}

func TestOperatorsAddress(t *testing.T) {
	for _, bits := range []int{0, 8} { // fewer than the longest prefix has
		name := "longest prefix"
		if bits != 0 {
			name = "other prefix"
		}
		t.Run(name, func(t *testing.T) {
			each(t, func(r *rig) {
				r.operate(r.addr.BitLen() - bits)
				want, _ := r.lookup()
				wantSame := func(after string) {
					r.Helper()
					// The kernel itself changes other flags.
					got, _ := r.lookup()
					if !got.Equal(want) || (got.Flags^want.Flags)&unix.IFA_F_PERMANENT != 0 || got.ValidLft != want.ValidLft {
						r.Errorf("after %s: got %+v, want %+v", after, got, want)
					}
				}
				stop := r.run()
				r.waitState("the owner", func(s anycast.State) bool { return s.Owner == anycast.Operator })
				r.setHealth(errors.New("sick"))
				r.wantLogged(logrus.WarnLevel, "not healthy, but the service address is an operator's and stays")
				r.setHealth(nil)
				r.wantLogged(logrus.InfoLevel, "healthy again")
				wantSame("health")
				stop()
				r.in(r.a.Withdraw)
				wantSame("Withdraw")
				r.in(r.a.Release)
				wantSame("Release")
				if got := r.cleanUp(); len(got) > 0 {
					r.Errorf("got %q removed, want nothing", got)
				}
				wantSame("Cleanup")
			})
		})
	}
}

func TestOperatorComesAndGoes(t *testing.T) {
	each(t, func(r *rig) {
		r.run()
		r.waitThere()
		r.operate(r.addr.BitLen())
		r.waitState("the operator", func(s anycast.State) bool { return s.Owner == anycast.Operator })
		r.wantLogged(logrus.InfoLevel, "service address is an operator's: used and left in place")
		if a, _ := r.lookup(); a.Flags&unix.IFA_F_PERMANENT == 0 {
			r.Errorf("got %+v, want it forever", a)
		}
		r.wantQuiet()
		r.removeAddr()
		r.waitState("ours", func(s anycast.State) bool { return s.Owner == anycast.Ours })
		r.waitThere()
		r.wantLogged(logrus.WarnLevel, "service address of the operator was removed: our own put in its place")
	})
}

func TestLifetimeIsRoundedUp(t *testing.T) {
	each(t, func(r *rig) {
		r.a = anycast.New(anycast.Options{Addr: r.addr, Lifetime: lifetime / 2})
		r.run()
		r.waitThere()
		if a, ok := r.lookup(); ok && (a.ValidLft < 1 || a.ValidLft > 2) {
			r.Errorf("got a lifetime of %d s, want 2", a.ValidLft)
		}
	})
}

func TestErrorIsToldAndTriedAgain(t *testing.T) {
	const switchOff = "net/ipv6/conf/lo/disable_ipv6"
	r := newRig(t, netip.MustParseAddr("2001:db8:10::10"), "")
	r.check(r.node.SetSysctl(switchOff, "1"))
	r.run()
	r.waitState("an error", func(s anycast.State) bool { return s.Err != nil && !s.Installed() })
	r.wantLogged(logrus.ErrorLevel, "service address not as it should be")
	r.check(r.node.SetSysctl(switchOff, "0"))
	r.waitThere()
	r.waitState("no error", func(s anycast.State) bool { return s.Err == nil && s.Owner == anycast.Ours })
}
