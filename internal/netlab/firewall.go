// SPDX-License-Identifier: Apache-2.0

package netlab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// Refuse makes the namespace's firewall (nf_tables) drop what it sends to an
// IPv4 prefix whose length is a multiple of 8, also what a raw socket sends.
// The sender sees EPERM. It holds until the lab ends and is called once.
func (n *Namespace) Refuse(to netip.Prefix) error {
	err := n.Do(func() error { return refuse(to) })
	return n.fail(err, "refuse packets to %s", to)
}

// nfTable and nfChain name what Refuse adds.
const nfTable, nfChain = "netlab", "output"

func refuse(to netip.Prefix) error {
	addr := to.Addr().As4()
	octets := to.Bits() / 8

	var b nfBatch
	b.message(unix.NFNL_MSG_BATCH_BEGIN, unix.AF_UNSPEC, 0, nil)
	b.message(unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_NEWTABLE, unix.AF_INET, unix.NLM_F_CREATE|unix.NLM_F_ACK,
		nfString(unix.NFTA_TABLE_NAME, nfTable))
	b.message(unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_NEWCHAIN, unix.AF_INET, unix.NLM_F_CREATE|unix.NLM_F_ACK,
		nfString(unix.NFTA_CHAIN_TABLE, nfTable),
		nfString(unix.NFTA_CHAIN_NAME, nfChain),
		nfNested(unix.NFTA_CHAIN_HOOK,
			nfUint32(unix.NFTA_HOOK_HOOKNUM, unix.NF_INET_LOCAL_OUT),
			nfUint32(unix.NFTA_HOOK_PRIORITY, 0)),
		nfString(unix.NFTA_CHAIN_TYPE, "filter"))
	b.message(unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_NEWRULE, unix.AF_INET, unix.NLM_F_CREATE|unix.NLM_F_ACK,
		nfString(unix.NFTA_RULE_TABLE, nfTable),
		nfString(unix.NFTA_RULE_CHAIN, nfChain),
		nfNested(unix.NFTA_RULE_EXPRESSIONS,
			nfExpr("payload", // the destination's first octets, into register 1
				nfUint32(unix.NFTA_PAYLOAD_DREG, unix.NFT_REG_1),
				nfUint32(unix.NFTA_PAYLOAD_BASE, unix.NFT_PAYLOAD_NETWORK_HEADER),
				nfUint32(unix.NFTA_PAYLOAD_OFFSET, 16),
				nfUint32(unix.NFTA_PAYLOAD_LEN, uint32(octets))),
			nfExpr("cmp",
				nfUint32(unix.NFTA_CMP_SREG, unix.NFT_REG_1),
				nfUint32(unix.NFTA_CMP_OP, unix.NFT_CMP_EQ),
				nfNested(unix.NFTA_CMP_DATA, nfAttr(unix.NFTA_DATA_VALUE, addr[:octets]))),
			nfExpr("immediate",
				nfUint32(unix.NFTA_IMMEDIATE_DREG, unix.NFT_REG_VERDICT),
				nfNested(unix.NFTA_IMMEDIATE_DATA,
					nfNested(unix.NFTA_DATA_VERDICT, nfUint32(unix.NFTA_VERDICT_CODE, 0)))))) // NF_DROP
	b.message(unix.NFNL_MSG_BATCH_END, unix.AF_UNSPEC, 0, nil)
	return b.send()
}

// An nfBatch is a batch of nf_tables messages (linux/netfilter/nfnetlink.h):
// the kernel takes in all of them or none.
type nfBatch struct {
	b    []byte
	seq  uint32
	acks int // messages that are acknowledged
}

func (b *nfBatch) message(typ uint16, family byte, flags uint16, attrs ...[]byte) {
	start := len(b.b)
	b.seq++
	h := make([]byte, unix.SizeofNlMsghdr, 64)
	binary.NativeEndian.PutUint16(h[4:], typ)
	binary.NativeEndian.PutUint16(h[6:], flags|unix.NLM_F_REQUEST)
	binary.NativeEndian.PutUint32(h[8:], b.seq)
	resource := uint16(0)
	if typ>>8 == 0 { // begin and end name the subsystem
		resource = unix.NFNL_SUBSYS_NFTABLES
	}
	h = append(h, family, 0)
	h = binary.BigEndian.AppendUint16(h, resource)
	b.b = append(b.b, h...)
	for _, a := range attrs {
		b.b = append(b.b, a...)
	}
	binary.NativeEndian.PutUint32(b.b[start:], uint32(len(b.b)-start))
	if flags&unix.NLM_F_ACK != 0 {
		b.acks++
	}
}

// send sends the batch and waits for the answers.
func (b *nfBatch) send() error {
	s, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return fmt.Errorf("netfilter socket: %w", err)
	}
	defer unix.Close(s)
	if err := unix.Sendto(s, b.b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("send batch: %w", err)
	}
	buf := make([]byte, os.Getpagesize())
	for got := 0; got < b.acks; {
		k, _, err := unix.Recvfrom(s, buf, 0)
		if err != nil {
			return fmt.Errorf("read answer: %w", err)
		}
		for m := buf[:k]; len(m) >= unix.SizeofNlMsghdr+4; got++ {
			if errno := -int32(binary.NativeEndian.Uint32(m[unix.SizeofNlMsghdr:])); errno != 0 {
				return errors.Join(fmt.Errorf("message %d", binary.NativeEndian.Uint32(m[8:])), unix.Errno(errno))
			}
			m = m[min(int(binary.NativeEndian.Uint32(m)+3)&^3, len(m)):]
		}
	}
	return nil
}

// nfAttr returns a netlink attribute (linux/netlink.h, struct nlattr).
func nfAttr(typ uint16, value []byte) []byte {
	b := make([]byte, 4, 4+len(value)+3)
	binary.NativeEndian.PutUint16(b, uint16(4+len(value)))
	binary.NativeEndian.PutUint16(b[2:], typ)
	b = append(b, value...)
	return append(b, make([]byte, -len(b)&3)...)
}

func nfString(typ uint16, s string) []byte { return nfAttr(typ, append([]byte(s), 0)) }

func nfUint32(typ uint16, v uint32) []byte {
	return nfAttr(typ, binary.BigEndian.AppendUint32(nil, v))
}

func nfNested(typ uint16, attrs ...[]byte) []byte {
	var b []byte
	for _, a := range attrs {
		b = append(b, a...)
	}
	return nfAttr(typ|unix.NLA_F_NESTED, b)
}

// nfExpr returns an expression of a rule, as an element of its list.
func nfExpr(name string, attrs ...[]byte) []byte {
	return nfNested(unix.NFTA_LIST_ELEM, nfString(unix.NFTA_EXPR_NAME, name), nfNested(unix.NFTA_EXPR_DATA, attrs...))
}
