// SPDX-License-Identifier: Apache-2.0

package underlay_test

import (
	"net"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"vxsnd/internal/underlay"
)

// TestPathUnderIPsec leaves to the IP stack what IPsec is to encrypt or to block,
// as soon as there is a policy, and no more when it has gone.
func TestPathUnderIPsec(t *testing.T) {
	r := idlePathRig(t)
	policy := func(to string, dir netlink.Dir, change func(*netlink.XfrmPolicy)) *netlink.XfrmPolicy {
		_, dst, err := net.ParseCIDR(to)
		check(t, err)
		_, src, err := net.ParseCIDR("0.0.0.0/0")
		check(t, err)
		p := &netlink.XfrmPolicy{Dst: dst, Src: src, Dir: dir, Tmpls: []netlink.XfrmPolicyTmpl{{
			Proto: netlink.XFRM_PROTO_ESP, Mode: netlink.XFRM_MODE_TRANSPORT,
		}}}
		if change != nil {
			change(p)
		}
		return p
	}
	set := func(do func(*netlink.XfrmPolicy) error, p *netlink.XfrmPolicy) {
		t.Helper()
		check(t, r.Do(func() error { return do(p) }))
	}
	for _, p := range []*netlink.XfrmPolicy{
		policy("10.0.0.0/24", netlink.XFRM_DIR_IN, nil),
		policy("10.0.0.2/32", netlink.XFRM_DIR_OUT, func(p *netlink.XfrmPolicy) { p.Proto = unix.IPPROTO_TCP }),
		policy("10.0.0.0/16", netlink.XFRM_DIR_OUT, func(p *netlink.XfrmPolicy) { p.Tmpls = nil }),
		policy("10.0.0.0/15", netlink.XFRM_DIR_OUT, func(p *netlink.XfrmPolicy) { p.Mark = &netlink.XfrmMark{Value: 1, Mask: 1} }),
		policy("10.1.0.0/24", netlink.XFRM_DIR_OUT, nil),
	} {
		set(netlink.XfrmPolicyAdd, p)
	}
	r.follow(t, "", receiveBuffer, never)
	r.p.Want(addrs("10.0.0.2", "10.1.0.2"), nil)
	good := r.by(t, "eth0", r.one, 1500)
	unfit := underlay.Path{State: underlay.PathUnfit}
	r.want(t, "10.1.0.2", unfit)
	r.want(t, "10.0.0.2", good)
	r.wantNever(t, "10.1.0.2", underlay.PathGood)

	for _, p := range []*netlink.XfrmPolicy{
		policy("10.0.0.2/31", netlink.XFRM_DIR_OUT, nil),
		policy("0.0.0.0/0", netlink.XFRM_DIR_OUT, func(p *netlink.XfrmPolicy) { p.Proto = unix.IPPROTO_UDP }),
		policy("10.0.0.2/32", netlink.XFRM_DIR_OUT, func(p *netlink.XfrmPolicy) {
			p.Action, p.Tmpls = netlink.XFRM_POLICY_BLOCK, nil
		}),
	} {
		set(netlink.XfrmPolicyAdd, p)
		r.want(t, "10.0.0.2", unfit)
		set(netlink.XfrmPolicyDel, p)
		r.want(t, "10.0.0.2", good)
	}
}
