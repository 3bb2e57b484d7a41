// SPDX-License-Identifier: Apache-2.0

package underlay

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Policies are those of IPsec for what this machine sends (ip-xfrm(8)). What they
// encrypt or block, the IP stack alone can send.
type policies struct {
	handle *netlink.Handle // nil where the kernel has no IPsec
	feed   *feed
}

// openPolicies connects to the kernel.
func openPolicies() (*policies, error) {
	h, err := netlink.NewHandle(unix.NETLINK_XFRM)
	if errors.Is(err, unix.EPROTONOSUPPORT) {
		return &policies{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open netlink: %w", err)
	}
	f, err := openFeedOf(unix.NETLINK_XFRM, receiveBuffer)
	if err != nil {
		h.Close()
		return nil, err
	}
	return &policies{h, f}, nil
}

func (p *policies) close() {
	if p.handle != nil {
		p.handle.Close()
		p.feed.close()
	}
}

// list returns the addresses that policies are about. It needs CAP_NET_ADMIN.
func (p *policies) list() (out []netip.Prefix, err error) {
	if p.handle == nil {
		return nil, nil
	}
	all, err := p.handle.XfrmPolicyList(netlink.FAMILY_V4)
	if err != nil {
		return nil, fmt.Errorf("read IPsec policies: %w", err)
	}
	for _, x := range all {
		// What goes to an IPsec device (if_id) is by another device than this, and
		// copies have no mark. One that leaves packets alone may stand behind another.
		if x.Dir != netlink.XFRM_DIR_OUT || x.Ifid != 0 || x.Mark != nil && x.Mark.Value&x.Mark.Mask != 0 ||
			x.Proto != 0 && x.Proto != unix.IPPROTO_UDP || x.Action == netlink.XFRM_POLICY_ALLOW && len(x.Tmpls) == 0 {
			continue
		}
		to, _ := fromIP(x.Dst.IP.To4())
		ones, _ := x.Dst.Mask.Size()
		out = append(out, netip.PrefixFrom(to, ones))
	}
	return out, nil
}

// follow calls changed whenever there may be other policies, until ctx is done.
func (p *policies) follow(ctx context.Context, changed func()) error {
	if p.handle == nil {
		return nil
	}
	if err := p.feed.subscribe(nl.XFRMNLGRP_POLICY); err != nil {
		return fmt.Errorf("follow IPsec policies: %w", err)
	}
	defer p.feed.until(ctx)()
	changed()
	for {
		_, err := p.feed.next(ctx, time.Time{})
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && !errors.Is(err, unix.ENOBUFS):
			return fmt.Errorf("follow IPsec policies: %w", err)
		}
		changed()
	}
}

// readPolicies takes in the policies of now.
func (f *pathFollower) readPolicies() {
	list, err := f.p.policies.list()
	if err != nil {
		f.p.u.log.WithError(err).Debug("trying again")
		return
	}
	f.reread = false
	if slices.Equal(list, f.protected) {
		return
	}
	f.protected = list
	for _, t := range f.wanted {
		f.stale[t] = struct{}{}
	}
}

// isProtected tells whether a policy is about an address.
func (f *pathFollower) isProtected(a netip.Addr) bool {
	return slices.ContainsFunc(f.protected, func(p netip.Prefix) bool { return p.Contains(a) })
}
