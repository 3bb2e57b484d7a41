// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"bytes"
	"encoding/binary"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/xt"
	"golang.org/x/sys/unix"
)

// A ruleset is what nf_tables holds for IP in the calling thread's namespace.
// The rules of iptables-nft are among them, those of iptables-legacy are not.
type ruleset struct {
	bases []*nftables.Chain // chains that a hook of the kernel calls
	rules map[chainID][]*nftables.Rule
	conn  *nftables.Conn
}

type chainID struct {
	family       nftables.TableFamily
	table, chain string
}

func idOf(t *nftables.Table, chain string) chainID { return chainID{t.Family, t.Name, chain} }

// readRuleset reads all rules. The connection serves for reading sets later, and
// the caller closes it.
func readRuleset() (*ruleset, error) {
	c, err := nftables.New(nftables.AsLasting())
	if err != nil {
		return nil, err
	}
	r := &ruleset{conn: c, rules: make(map[chainID][]*nftables.Rule)}
	chains, err := c.ListChains()
	for _, ch := range chains {
		if !slices.Contains([]nftables.TableFamily{nftables.TableFamilyINet, nftables.TableFamilyIPv4, nftables.TableFamilyIPv6}, ch.Table.Family) {
			continue
		}
		if ch.Hooknum != nil && ch.Priority != nil {
			r.bases = append(r.bases, ch)
		}
		var rules []*nftables.Rule
		if rules, err = c.GetRules(ch.Table, ch); err != nil {
			break
		}
		r.rules[idOf(ch.Table, ch.Name)] = rules
	}
	if err != nil {
		r.close()
		return nil, err
	}
	return r, nil
}

func (r *ruleset) close() { _ = r.conn.CloseLasting() }

// A packet is what is known of the packets that a walk is about: UDP of this
// family to this port. Whatever else a rule asks for, they may have it.
type packet struct {
	family nftables.TableFamily // IPv4 or IPv6
	port   uint16
}

// reaches tells whether a packet, on its way through base chain ch, may come to
// an expression for which found is true. A rule that surely ends its way ends
// the walk. Verdict maps are not followed.
func (r *ruleset) reaches(ch *nftables.Chain, p packet, found func(expr.Any) bool) bool {
	if ch.Table.Family != nftables.TableFamilyINet && ch.Table.Family != p.family {
		return false
	}
	hit, _ := r.walk(idOf(ch.Table, ch.Name), p, found, make(map[chainID]bool))
	return hit
}

// walk returns whether found was true, and whether the packet's way surely ends
// in this chain.
func (r *ruleset) walk(id chainID, p packet, found func(expr.Any) bool, seen map[chainID]bool) (hit, ends bool) {
	if seen[id] {
		return false, false
	}
	seen[id] = true
	for _, rule := range r.rules[id] {
		m := match{r: r, table: rule.Table, p: p, sure: true, registers: make(map[uint32][]byte)}
		for _, e := range rule.Exprs {
			if found(e) {
				return true, false
			}
			if v, ok := e.(*expr.Verdict); ok {
				switch v.Kind {
				case expr.VerdictJump, expr.VerdictGoto:
					to := id
					to.chain = v.Chain
					hit, ends = r.walk(to, p, found, seen)
					if hit || m.sure && (ends || v.Kind == expr.VerdictGoto) {
						return hit, ends
					}
				case expr.VerdictReturn:
					if m.sure {
						return false, false
					}
				case expr.VerdictAccept, expr.VerdictDrop:
					if m.sure {
						return false, true
					}
				}
			}
			if !m.passes(e) {
				break
			}
		}
	}
	return false, false
}

// A match follows one rule, expression by expression.
type match struct {
	r         *ruleset
	table     *nftables.Table
	p         packet
	sure      bool              // all conditions so far are known to hold
	registers map[uint32][]byte // what they hold, where it is known
}

// passes tells whether the packet may get past expression e.
func (m *match) passes(e expr.Any) bool {
	switch e := e.(type) {
	case *expr.Meta:
		m.load(e.Register, m.meta(e.Key))
	case *expr.Payload:
		if e.OperationType == expr.PayloadLoad {
			m.load(e.DestRegister, m.payload(e))
		}
	case *expr.Cmp:
		return m.holds(e.Register, func(v []byte) bool { return compare(e.Op, bytes.Compare(v, e.Data)) })
	case *expr.Range:
		return m.holds(e.Register, func(v []byte) bool {
			within := bytes.Compare(v, e.FromData) >= 0 && bytes.Compare(v, e.ToData) <= 0
			return within == (e.Op == expr.CmpOpEq)
		})
	case *expr.Lookup:
		return m.lookup(e)
	case *expr.Match:
		return m.extension(e)
	case *expr.Counter, *expr.Log, *expr.Verdict, *expr.Target, *expr.Notrack:
	case *expr.Bitwise:
		m.load(e.DestRegister, nil)
	default:
		// Something else to ask for, or to load: what is in the registers
		// is not known any more.
		m.sure = false
		clear(m.registers)
	}
	return true
}

func (m *match) load(register uint32, v []byte) {
	if delete(m.registers, register); v != nil {
		m.registers[register] = v
	}
}

// holds applies a condition to a register, if it is known what that holds.
func (m *match) holds(register uint32, condition func([]byte) bool) bool {
	v, ok := m.registers[register]
	if !ok {
		m.sure = false
		return true
	}
	return condition(v)
}

func (m *match) meta(key expr.MetaKey) []byte {
	switch key {
	case expr.MetaKeyL4PROTO:
		return []byte{unix.IPPROTO_UDP}
	case expr.MetaKeyNFPROTO:
		return []byte{byte(m.p.family)}
	}
	return nil
}

func (m *match) payload(e *expr.Payload) []byte {
	protocol := uint32(9) // RFC 791, section 3.1
	if m.p.family == nftables.TableFamilyIPv6 {
		protocol = 6 // RFC 8200, section 3
	}
	switch {
	case e.Base == expr.PayloadBaseTransportHeader && e.Offset == 2 && e.Len == 2:
		return binary.BigEndian.AppendUint16(nil, m.p.port)
	case e.Base == expr.PayloadBaseNetworkHeader && e.Offset == protocol && e.Len == 1:
		return []byte{unix.IPPROTO_UDP}
	}
	return nil
}

// lookup compares a register with the elements of a set.
func (m *match) lookup(e *expr.Lookup) bool {
	v, ok := m.registers[e.SourceRegister]
	if !ok || e.IsDestRegSet {
		m.sure = false
		return true
	}
	elements, err := m.r.conn.GetSetElements(&nftables.Set{Table: m.table, Name: e.SetName})
	if err != nil || slices.ContainsFunc(elements, func(s nftables.SetElement) bool { return len(s.Key) != len(v) }) {
		m.sure = false // a key of several fields, or a set that is gone
		return true
	}
	return contains(elements, v) != e.Invert
}

// contains tells whether a set has v, as an element or within an interval,
// which goes from one element to the next one that is marked as an end.
func contains(elements []nftables.SetElement, v []byte) bool {
	if !slices.ContainsFunc(elements, func(s nftables.SetElement) bool { return s.IntervalEnd }) {
		return slices.ContainsFunc(elements, func(s nftables.SetElement) bool { return bytes.Equal(s.Key, v) })
	}
	slices.SortFunc(elements, func(a, b nftables.SetElement) int {
		// Of an end and a beginning at one place the beginning counts.
		if d := bytes.Compare(a.Key, b.Key); d != 0 || a.IntervalEnd == b.IntervalEnd {
			return d
		} else if a.IntervalEnd {
			return -1
		}
		return 1
	})
	within := false
	for _, s := range elements {
		if bytes.Compare(s.Key, v) > 0 {
			break
		}
		within = !s.IntervalEnd
	}
	return within
}

// extension is a condition of iptables.
func (m *match) extension(e *expr.Match) bool {
	udp, ok := e.Info.(*xt.Udp)
	switch {
	case e.Name == "comment":
	case e.Name == "tcp":
		return false
	case !ok || udp.SrcPorts != [2]uint16{0, 65535} || udp.InvFlags&xt.UdpInvSrcPorts != 0:
		m.sure = false
	}
	if ok {
		within := udp.DstPorts[0] <= m.p.port && m.p.port <= udp.DstPorts[1]
		return within != (udp.InvFlags&xt.UdpInvDestPorts != 0)
	}
	return true
}

func compare(op expr.CmpOp, d int) bool {
	switch op {
	case expr.CmpOpEq:
		return d == 0
	case expr.CmpOpNeq:
		return d != 0
	case expr.CmpOpLt:
		return d < 0
	case expr.CmpOpLte:
		return d <= 0
	case expr.CmpOpGt:
		return d > 0
	default:
		return d >= 0
	}
}
