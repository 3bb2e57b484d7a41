// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/sirupsen/logrus"

	"vxsnd/internal/control"
	"vxsnd/internal/fdb"
)

// hold keeps others from changing static members until release is called.
func (n *Node) hold(ctx context.Context) (release func(), err error) {
	select {
	case n.changing <- struct{}{}:
		return func() { <-n.changing }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// changeArgs are a control.FDBChange as an operator wrote it: a VNI that is left out is
// not VNI 0.
type changeArgs struct {
	VNI     *uint32    `json:"vni"`
	Address netip.Addr `json:"address"`
}

// operated returns the pair that an operator names.
func operated(c *changeArgs) (pair, error) {
	vni, err := namedVNI(c.VNI)
	if err != nil {
		return pair{}, err
	}
	a := c.Address.Unmap()
	if !a.IsValid() {
		return pair{}, badArgument("no address is named")
	}
	if !fdb.Usable(a) {
		return pair{}, &control.Error{
			Code: control.CodeBadArgument, Text: fmt.Sprintf("%s cannot be the address of a VTEP", a),
			Hint: "name a unicast address that can be sent to without a device: no loopback and no link-local one",
		}
	}
	return pair{vni, a.As16()}, nil
}

// addEntry makes an entry.
func (n *Node) addEntry(ctx context.Context, a *changeArgs, call *control.Call) error {
	p, err := operated(a)
	if err != nil {
		return err
	}
	release, err := n.hold(ctx)
	if err != nil {
		return err
	}
	defer release()
	u := p.update(fdb.Operator, fdb.Static)
	res := n.table.Apply(clock(), []fdb.Update{u})
	if why, ok := refusal(res); !ok {
		return (&refused{u, why, 0}).ofOperator()
	}
	if res.Added > 0 {
		n.log.WithFields(logrus.Fields{"vni": u.VNI, "vtep": u.Addr}).Info("operator added member")
	}
	return call.Send(&control.FDBChanged{Changed: res.Added > 0, Warning: n.noCopies(u.Addr)})
}

// ofOperator says why there is no room for what an operator wants.
func (r *refused) ofOperator() *control.Error {
	e := &control.Error{
		Code: control.CodeFailed, Text: fmt.Sprintf("no room for %s in VNI %s", r.Addr, r.VNI),
		Hint: "raise " + capNames[r.why],
	}
	if capNames[r.why] == "" {
		e.Text, e.Hint = fmt.Sprintf("%s in VNI %s is not taken in (%s)", r.Addr, r.VNI, r.why), ""
	}
	return e
}

// noCopies says why a member with this address gets no copies, whoever sends; empty
// if it does.
func (n *Node) noCopies(a netip.Addr) string {
	switch what, why := n.unfit(a); {
	case what != "":
		return fmt.Sprintf("%s gets no copies: it is %s", a, what)
	case why != "":
		return fmt.Sprintf("%s gets no copies: %s", a, why)
	}
	return ""
}

// unfit says what a is or, where it is nothing special, why else it gets no copies;
// both are empty if it gets them.
func (n *Node) unfit(a netip.Addr) (what, why string) {
	switch e := n.table.Excluded(a); {
	case e != fdb.NotExcluded:
		return n.guard.whose(a, e), ""
	case !n.speaks(a):
		return "", "neither svcnode_ip nor src_ip is an address of its family"
	case n.isBroadcast(a):
		return "a broadcast address", ""
	}
	return "", ""
}

// speaks tells whether the node has an address of the family of a, which is where
// packets arrive that may be copied to a.
func (n *Node) speaks(a netip.Addr) bool {
	c := n.config()
	return c.SvcnodeIP.Is4() == a.Is4() || !c.SrcIP.IsUnspecified() && c.SrcIP.Is4() == a.Is4()
}

// isBroadcast tells whether a is the broadcast address of a network that this
// machine is in.
func (n *Node) isBroadcast(a netip.Addr) bool {
	if n.underlay == nil {
		return false // not listening yet
	}
	_, is := n.underlay.Broadcasts()[a]
	return is
}

// returns says of each source how an entry that it vouches for can be removed.
var returns = [fdb.NumSources]string{
	fdb.Data:          "it was learned from its packets and stays while it sends",
	fdb.Registration:  "it registers itself here",
	fdb.Configuration: "take it out of vtep_membership",
	fdb.Peer:          "a peer tells of it: remove it there",
}

// deleteEntry removes an entry that an operator made.
func (n *Node) deleteEntry(ctx context.Context, a *changeArgs, call *control.Call) error {
	p, err := operated(a)
	if err != nil {
		return err
	}
	release, err := n.hold(ctx)
	if err != nil {
		return err
	}
	defer release()
	u := p.update(fdb.Operator, 0)
	others, goes := n.sourcesOf(u)
	found := slices.Contains(others, fdb.Operator)
	others = slices.DeleteFunc(others, func(s fdb.Source) bool { return s == fdb.Operator || s == fdb.Peer && found && goes })
	var names, hints []string
	for _, s := range others {
		names, hints = append(names, s.String()), append(hints, returns[s])
	}
	switch {
	case !found && len(others) == 0:
		return &control.Error{Code: control.CodeFailed, Text: fmt.Sprintf("%s is no member of VNI %s", u.Addr, u.VNI)}
	case !found:
		return &control.Error{
			Code: control.CodeFailed,
			Text: fmt.Sprintf("no operator made %s a member of VNI %s: it is one by %s", u.Addr, u.VNI, strings.Join(names, ", ")),
			Hint: strings.Join(hints, "; "),
		}
	}
	n.table.Apply(clock(), []fdb.Update{u})
	n.log.WithFields(logrus.Fields{"vni": u.VNI, "vtep": u.Addr}).Info("operator removed member")
	out := control.FDBChanged{Changed: true}
	if len(others) > 0 {
		out.Warning = fmt.Sprintf("%s is still a member of VNI %s, by %s: %s", u.Addr, u.VNI, strings.Join(names, ", "), strings.Join(hints, "; "))
	}
	return call.Send(&out)
}

// sourcesOf returns the sources of the live entries of the member that u names,
// in order, each once; goes tells whether those of peers only have back what an
// operator here told them, and go a moment after his.
func (n *Node) sourcesOf(u fdb.Update) (sources []fdb.Source, goes bool) {
	goes = true
	for _, e := range n.table.Entries(clock(), u.VNI, nil) {
		if e.Addr != u.Addr {
			continue
		}
		sources = append(sources, e.Source)
		if e.Source == fdb.Peer && (e.Identifier != 0 || e.Expires != fdb.Never || n.group.Owned(u.VNI, u.Addr)) {
			goes = false
		}
	}
	slices.Sort(sources)
	return slices.Compact(sources), goes
}
