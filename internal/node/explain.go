// SPDX-License-Identifier: Apache-2.0

package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"vxsnd/internal/config"
	"vxsnd/internal/control"
	"vxsnd/internal/fdb"
	"vxsnd/internal/metrics"
	"vxsnd/internal/underlay"
	"vxsnd/internal/vxlan"
)

// The names of rules that drop nothing, or that no drop reason stands for. All
// others are names of metrics.Drop.
const (
	ruleFlooded     = "flooded"
	ruleNotFlooding = "not_flooding" // the node floods nothing
	ruleCopy        = "copy"
	ruleSender      = "sender"
	ruleExpired     = "expired"
	ruleLocal       = "local" // the copy does not leave the machine
)

const (
	// usualTTL is what packets of Linux arrive with from a neighbour.
	usualTTL = 64

	// maxPayload is what fits a UDP datagram over IPv4, bytes.
	maxPayload = 65507

	// maxExplaining is how many explanations may be under way: each looks at the
	// routes of a VNI's members one by one, and holds what it says of them until
	// the client has read it.
	maxExplaining = 4
)

// An explainer says what would happen to packets. It may be used concurrently.
type explainer struct {
	*Node
	places chan struct{}
}

func newExplainer(n *Node) *explainer { return &explainer{n, make(chan struct{}, maxExplaining)} }

// explainArgs are control.ExplainArgs as a client wrote them: a VNI that is left out
// is not VNI 0.
type explainArgs struct {
	VNI *uint32 `json:"vni"`
	control.ExplainArgs
}

// run answers a request.
func (x *explainer) run(ctx context.Context, args *explainArgs, call *control.Call) error {
	vni, err := namedVNI(args.VNI)
	p := packet{vni: vni, source: args.Source.Unmap(), ttl: usualTTL, size: -1}
	switch {
	case err != nil:
		return err
	case !p.source.IsValid():
		return badArgument("no source is named")
	}
	if args.TTL != nil {
		if p.ttl = *args.TTL; p.ttl < 0 || p.ttl > 255 {
			return badArgument("ttl %d is out of range 0..255", p.ttl)
		}
	}
	if args.Length != nil {
		if p.size = vxlan.HeaderLen + *args.Length; p.size < vxlan.HeaderLen || p.size > maxPayload {
			return badArgument("length %d is out of range 0..%d", *args.Length, maxPayload-vxlan.HeaderLen)
		}
	}
	select {
	case x.places <- struct{}{}:
		defer func() { <-x.places }()
	case <-ctx.Done():
		return ctx.Err()
	}
	x.sync(ctx)
	head, dests, err := x.explainPacket(ctx, &p)
	if err != nil {
		return err
	}
	if err := call.Send(head); err != nil {
		return err
	}
	for part := range slices.Chunk(dests, control.MaxPart) {
		if err := call.Send(part); err != nil {
			return err
		}
	}
	return nil
}

// A packet is one that may arrive.
type packet struct {
	vni    vxlan.VNI
	source netip.Addr
	ttl    int
	size   int // of its UDP payload, negative for one that fits anywhere
}

// explainPacket says what would happen to p, and what each member of its VNI
// would get, in the order of addresses. It asks in the order of the data plane:
// flood.check, the look at the table, flood.replicate and the kernel.
func (x *explainer) explainPacket(ctx context.Context, p *packet) (*control.Explanation, []control.ExplainedDestination, error) {
	c := x.config()
	head := &control.Explanation{VNI: uint32(p.vni), Source: p.source}
	ends := func(rule, format string, values ...any) {
		head.Rule, head.Text = rule, fmt.Sprintf(format, values...)
	}
	switch {
	case x.flooding.current() == nil:
		ends(ruleNotFlooding, "this node floods nothing (enable_vxlan_listen, no_flood)")
		return head, nil, nil
	case !x.speaks(p.source):
		ends(metrics.DropFamily.String(), "this node has no address that packets from %s could be sent to (svcnode_ip, src_ip)", p.source)
		return head, nil, nil
	case p.source.IsLoopback():
		ends(metrics.DropOwn.String(), "%s is an address of this machine", p.source)
		return head, nil, nil
	case !fdb.Usable(p.source):
		ends(metrics.DropSource.String(), "%s cannot be the address of a VTEP", p.source)
		return head, nil, nil
	}
	now := clock()
	l := fdb.Lookup{VNI: p.vni, Source: p.source}
	why, refused := x.table.Peek(now, &l)
	entries := x.table.Entries(now, p.vni, nil)
	if l.Refused != fdb.NotExcluded {
		ends(ruleOf(l.Refused), "%s is %s", p.source, x.guard.whose(p.source, l.Refused))
		return head, nil, nil
	}
	head.Learned, head.LearnText = l.Learn, x.learnText(&c, p, &l, entries, why, refused)

	v := view{Node: x.Node, config: &c, packet: p, now: now, sources: make(map[netip.Addr][]string)}
	slices.SortFunc(entries, func(a, b fdb.Entry) int { return compareEntries(&a, &b) })
	for _, e := range entries {
		s := v.sources[e.Addr]
		if name := e.Source.String(); len(s) == 0 || s[len(s)-1] != name {
			v.sources[e.Addr] = append(s, name)
		}
	}
	var err error
	if v.ways, err = x.underlay.Ways(); err != nil {
		return nil, nil, err
	}
	v.unresolved = x.underlay.Unresolved()
	dests, others, err := v.destinations(ctx, &l.Snapshot)
	if err != nil {
		return nil, nil, err
	}
	for i := range dests {
		if dests[i].Copy {
			head.Copies++
		}
	}
	switch {
	case p.ttl <= 1:
		ends(metrics.DropTTL.String(), "it arrives with TTL %d, so that a copy would have none left", p.ttl)
	case others == 0:
		ends(metrics.DropNoMember.String(), "VNI %s has no other member that gets copies", p.vni)
	default:
		head.Flooded = true
		ends(ruleFlooded, "%s for %s", copies(head.Copies), counted(others, "other member"))
	}
	return head, dests, nil
}

func copies(n int) string {
	if n == 1 {
		return "1 copy"
	}
	return fmt.Sprint(n, " copies")
}

// ruleOf is the drop reason of packets from an excluded address.
func ruleOf(e fdb.Exclusion) string {
	switch e {
	case fdb.ExcludedOwn:
		return metrics.DropOwn.String()
	case fdb.ExcludedService:
		return metrics.DropService.String()
	}
	return metrics.DropDenied.String()
}

// learnText says why the source would become a member, or why it would not.
func (x *explainer) learnText(c *config.Config, p *packet, l *fdb.Lookup, entries []fdb.Entry, why fdb.Refusal, refused bool) string {
	var by []string
	known := false
	for _, e := range entries {
		known = known || e.Source != fdb.Data
		if s := e.Source.String(); e.Addr == p.source && !slices.Contains(by, s) {
			by = append(by, s)
		}
	}
	switch {
	case l.Learn:
		return fmt.Sprintf("%s becomes a member by this packet", p.source)
	case refused && capNames[why] != "":
		return fmt.Sprintf("no room to learn %s: raise %s", p.source, capNames[why])
	case refused:
		return fmt.Sprintf("%s is not learned (%s)", p.source, why)
	case len(by) > 0:
		slices.Sort(by)
		return fmt.Sprintf("%s is a member already, by %s", p.source, strings.Join(by, ", "))
	case c.Learning == config.LearnKnown && !known:
		return fmt.Sprintf("learning = known, and nobody has registered in VNI %s", p.vni)
	}
	return "learning = off"
}

// A view is what the members of a VNI are explained with.
type view struct {
	*Node
	config     *config.Config
	packet     *packet
	now        fdb.Time
	sources    map[netip.Addr][]string // of the live entries of each member
	ways       *underlay.Ways
	unresolved map[netip.Addr]struct{}
}

// destinations explains each member, and returns how many live ones there are
// besides the sender.
func (v *view) destinations(ctx context.Context, snap *fdb.Snapshot) (dests []control.ExplainedDestination, others int, _ error) {
	listed := make(map[netip.Addr]bool, len(snap.Destinations))
	for i := range snap.Destinations {
		if ctx.Err() != nil {
			return nil, 0, ctx.Err()
		}
		a := snap.Destinations[i].Addr()
		listed[a] = true
		d := control.ExplainedDestination{Address: a, Sources: v.sources[a]}
		switch {
		case a == v.packet.source:
			d.Rule, d.Text = ruleSender, "the packet comes from it"
		case !snap.Live(i, v.now):
			d.Rule, d.Text = ruleExpired, "its time has run out"
		case v.packet.ttl <= 1:
			others++
			d.Rule, d.Text = metrics.DropTTL.String(), "the packet is dropped"
		default:
			others++
			if err := v.reach(&d); err != nil {
				return nil, 0, err
			}
		}
		dests = append(dests, d)
	}
	for a, sources := range v.sources {
		if e := v.table.Excluded(a); !listed[a] && e != fdb.NotExcluded {
			dests = append(dests, control.ExplainedDestination{
				Address: a, Rule: ruleOf(e), Text: "it is " + v.guard.whose(a, e), Sources: sources,
			})
		}
	}
	slices.SortFunc(dests, func(a, b control.ExplainedDestination) int { return a.Address.Compare(b.Address) })
	return dests, others, nil
}

// What the headers of a copy take, IPv4 and IPv6, bytes.
const (
	headers4 = 20 + 8
	headers6 = 40 + 8
)

// reach says whether a copy would get to a destination, as flood.dropOf sorts what
// the kernel says.
func (v *view) reach(d *control.ExplainedDestination) error {
	no := func(rule metrics.Drop, format string, values ...any) error {
		d.Rule, d.Text = rule.String(), fmt.Sprintf(format, values...)
		return nil
	}
	if d.Address.Is4() != v.packet.source.Is4() {
		return no(metrics.DropFamily, "it is of the other address family than %s, whose address a copy keeps", v.packet.source)
	}
	way, err := v.ways.To(d.Address)
	switch {
	case err == nil:
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return no(metrics.DropRefused, "its route is prohibited")
	case errors.Is(err, unix.EINVAL):
		return no(metrics.DropUnreachable, "its route is a blackhole")
	case errors.Is(err, unix.EHOSTUNREACH):
		return no(metrics.DropUnreachable, "its route says unreachable")
	case errors.Is(err, unix.ENETUNREACH), errors.Is(err, unix.ENETDOWN), errors.Is(err, unix.ENODEV):
		return no(metrics.DropUnreachable, "there is no route to it")
	default:
		return err
	}
	d.Device, d.Gateway = way.Device, way.Gateway
	size, next := v.packet.size+headers4, cmp.Or(way.Gateway, d.Address)
	if d.Address.Is6() {
		size = v.packet.size + headers6
	}
	_, unresolved := v.unresolved[next]
	tooLarge := v.packet.size >= 0 && size > way.MTU
	switch {
	case way.Local:
		d.Rule, d.Text = ruleLocal, "its route is local: the copy does not leave this machine"
	case way.Broadcast:
		return no(metrics.DropRefused, "it is a broadcast address")
	case tooLarge && v.config.Oversize == config.OversizeDrop:
		return no(metrics.DropOversize, "%d bytes are more than the %d of %s (oversize = drop)", size, way.MTU, way.Device)
	case unresolved:
		return no(metrics.DropUnresolved, "the link-layer address of %s does not resolve", next)
	default:
		d.Copy, d.Rule = true, ruleCopy
		if tooLarge {
			d.Text = fmt.Sprintf("in fragments: %d bytes are more than the %d of %s", size, way.MTU, way.Device)
		}
	}
	return nil
}
