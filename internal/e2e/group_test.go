// SPDX-License-Identifier: Apache-2.0

package e2e

// A group of service nodes on one segment. Those of the deployed suite are
// played by the test.
//
//	sn1 .201  sn2 .202  …       old1 .101  old2 .102  …
//	   │         │                 │          │
//	── switch ─────────────────────────────────────── 192.0.2.0/24
//	  │       │
//	  1       2      192.0.2.N: VTEPs, which register and send

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"

	"vxsnd/internal/control"
	"vxsnd/internal/vxlan"
)

const groupVNI vxlan.VNI = 500

// snode adds the machine of service node i.
func (l *lab) snode(i int) *node {
	l.t.Helper()
	return &node{machine: l.machine(fmt.Sprintf("sn%d", i), fmt.Sprintf("192.0.2.%d/24", 200+i))}
}

// grouped returns the configuration of a node with these peers.
func (n *node) grouped(peers []*machine, config ...string) []string {
	var list []string
	for _, p := range peers {
		list = append(list, p.addr.String())
	}
	return append([]string{
		"workers = 1", "src_ip = " + n.addr.String(), "svcnode_peers = " + strings.Join(list, ", "),
	}, config...)
}

// join starts the node as one of a group.
func (n *node) join(peers []*machine, config ...string) {
	n.lab.t.Helper()
	n.start(n.grouped(peers, config...)...)
}

// group starts n nodes that are each other's peers.
func (l *lab) group(n int, config ...string) (ns []*node) {
	l.t.Helper()
	var ms []*machine
	for i := range n {
		ns = append(ns, l.snode(i+1))
		ms = append(ms, ns[i].machine)
	}
	for _, n := range ns {
		n.join(ms, config...)
	}
	return ns
}

// peers returns the answer to peers.
func (n *node) peers() (ps []control.Peer) {
	n.lab.t.Helper()
	n.call(control.CommandPeers, nil, func(data json.RawMessage) error { return json.Unmarshal(data, &ps) })
	return ps
}

// A holding is what a node holds of one entry.
type holding struct {
	vni  vxlan.VNI
	addr netip.Addr
	id   uint64
}

// held returns all entries of a node, whatever vouches for them.
func (n *node) held() map[holding]bool {
	n.lab.t.Helper()
	out := make(map[holding]bool)
	n.call(control.CommandFDB, nil, func(data json.RawMessage) error {
		var part control.FDBPart
		err := json.Unmarshal(data, &part)
		for _, e := range part {
			out[holding{vxlan.VNI(e.VNI), e.Address, e.Identifier}] = true
		}
		return err
	})
	return out
}

// lose makes the machine lose what comes to the control port from an address,
// over UDP or TCP, until the function that it returns is called.
func (m *machine) lose(from netip.Addr, protocol byte) (restore func()) {
	t := m.lab.t
	t.Helper()
	match := func(base expr.PayloadBase, offset uint32, want []byte) []expr.Any {
		return []expr.Any{
			&expr.Payload{DestRegister: 1, Base: base, Offset: offset, Len: uint32(len(want))},
			&expr.Cmp{Register: 1, Op: expr.CmpOpEq, Data: want},
		}
	}
	rule := match(expr.PayloadBaseNetworkHeader, 9, []byte{protocol})
	rule = append(rule, match(expr.PayloadBaseNetworkHeader, 12, from.AsSlice())...)
	rule = append(rule, match(expr.PayloadBaseTransportHeader, 2, binary.BigEndian.AppendUint16(nil, ctlPort))...)
	m.base(nftables.ChainTypeFilter, nftables.ChainHookInput, nftables.ChainPriorityFilter,
		append(rule, &expr.Verdict{Kind: expr.VerdictDrop})...)
	return func() {
		t.Helper()
		check(t, m.Do(func() error {
			c, err := nftables.New()
			if err != nil {
				return err
			}
			c.DelTable(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: "test"})
			return c.Flush()
		}))
	}
}
