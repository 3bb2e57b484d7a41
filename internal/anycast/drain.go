// SPDX-License-Identifier: Apache-2.0

package anycast

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
)

// Check tells at the start whether addresses can be changed, without a change.
// The error matches unix.EPERM where CAP_NET_ADMIN is missing (for the network
// namespace that the process is in), and says so where the VRF device does not
// exist or the kernel has no IPv6. Where the address is an operator's there is
// nothing to change.
func (a *Address) Check() error {
	return a.at(func(s *site, d device) error {
		if owner, err := s.owner(d); err != nil || owner == Operator {
			return err
		}
		return s.allowed()
	})
}

// Withdraw is the first step of a stop, after Run has returned: the address
// goes, so that routing daemons withdraw it, but a local route of our own, added
// before, lets packets that still come be received and answered. An address
// that is an operator's, or not there, is left at that. To send from an IPv4
// address that is gone, a UDP socket in a VRF needs IP_TRANSPARENT: without, the
// kernel looks for it in the local table of no VRF (__ip_dev_find).
func (a *Address) Withdraw() error {
	return a.at(func(s *site, d device) error {
		owner, err := s.owner(d)
		if err != nil {
			return err
		}
		if owner != Ours {
			a.setOwner(owner)
			return nil
		}
		// Whatever comes of the route, the address must go.
		err = errors.Join(s.addRoute(d), s.remove(d))
		if err == nil {
			a.setOwner(None)
			a.log.Info("service address withdrawn")
		}
		a.update(func(s *State) { s.Draining = true })
		return err
	})
}

// Release is the second step, after the sockets are closed: the route goes, if
// Withdraw has added one. An operator's address takes no privilege here either.
func (a *Address) Release() error {
	if !a.State().Draining {
		return nil
	}
	err := a.at(func(s *site, d device) error {
		_, err := s.deleteRoute(s.route(d))
		return err
	})
	a.update(func(s *State) { s.Draining = false })
	return err
}

// at does something at the place of the address, and notes its error.
func (a *Address) at(do func(*site, device) error) error {
	err := at(a.o.Addr, a.o.VRF, do)
	a.update(func(s *State) { s.Err = err })
	return err
}

func at(addr netip.Addr, vrf string, do func(*site, device) error) error {
	s, err := openSite(addr, vrf)
	if err != nil {
		return err
	}
	defer s.close()
	d, err := s.device()
	if err != nil {
		return err
	}
	return do(s, d)
}

// Cleanup removes what a process that has crashed left: an address that Run put
// there (the kernel may have removed it by then) and the route of Withdraw, known
// by its RouteProtocol. It returns what that was, in words, each for a line of
// its own. vrf is that of Options. An operator's address stays. It is no error if
// there is nothing to remove, or no such VRF any more. It needs CAP_NET_ADMIN, and
// must not be called while a Run is under way on the machine.
func Cleanup(addr netip.Addr, vrf string) (removed []string, err error) {
	err = at(addr, vrf, func(s *site, d device) error {
		owner, err := s.owner(d)
		if err == nil && owner != Operator {
			err = s.remove(d)
		}
		if err == nil && owner == Ours {
			removed = append(removed, fmt.Sprintf("address %s on %s", s.addr, ifaceOf(vrf)))
		}
		found, rerr := s.deleteRoute(s.route(d))
		if found {
			removed = append(removed, fmt.Sprintf("local route to %s", s.addr))
		}
		return errors.Join(err, rerr)
	})
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		return nil, nil
	}
	return removed, err
}
