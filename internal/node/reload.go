// SPDX-License-Identifier: Apache-2.0

package node

import (
	"vxsnd/internal/config"
	"vxsnd/internal/fdb"
	"vxsnd/internal/flood"
)

// A Change is a configuration that a running node is ready to take over. Either
// Commit or Discard is called, once, and before the next Prepare.
type Change struct {
	n      *Node
	cfg    config.Config
	engine flood.Engine // listens already, where flooding begins
	added  []fdb.Update // static members that were taken in
	gone   []fdb.Update // those to withdraw
}

// Prepare does all that can fail on the way to another configuration, of which
// only the dynamic part counts. Where it fails the node goes on as before; the
// error says what of the configuration cannot be, and matches ErrBind or
// ErrPrivilege like those of Listen. It is called between Listen and the
// end of Run, by one goroutine at a time. What operators change by command waits
// until it is committed or discarded.
func (n *Node) Prepare(cfg config.Config) (_ *Change, err error) {
	n.changing <- struct{}{}
	defer func() {
		if err != nil {
			<-n.changing
		}
	}()
	old := n.config()
	cfg.Static = old.Static
	if err = n.mayInstall(&cfg); err != nil {
		return nil, n.explainReload(err)
	}
	c := &Change{n: n, cfg: cfg}
	add, gone := memberChanges(old.VTEPMembership, cfg.VTEPMembership)
	// What a start would refuse must not come into force either.
	if len(add) > 0 || cfg.Limits != old.Limits {
		if _, err = New(cfg, nil); err != nil {
			return nil, err
		}
	}
	if begins := n.flooding.current() == nil && floods(&cfg); begins {
		e, err := n.newEngine(&cfg)
		if err != nil {
			return nil, n.explainReload(err)
		}
		c.engine = e
	}
	c.gone = gone
	// Members that go stay until Commit, so that a refusal costs nobody a packet:
	// until then there is room for their successors beside them.
	o := tableOptions(&cfg)
	o.LearnHoldtime = holdtime(old.Holdtime) // a refusal must not have let members expire
	n.table.Configure(clock(), besides(o, len(gone)))
	var no *refused
	if c.added, no = n.addMembers(add); no != nil {
		c.undo()
		return nil, no.ofConfiguration()
	}
	return c, nil
}

// besides returns the options with room for the successors of members that stay
// until these are in.
func besides(o fdb.Options, gone int) fdb.Options {
	o.VNIs += gone
	o.Members += gone
	o.Entries += gone
	return o
}

// Commit makes the configuration the node's own.
func (c *Change) Commit() {
	n := c.n
	defer func() { <-n.changing }()
	n.mu.Lock()
	n.cfg = c.cfg
	n.mu.Unlock()

	n.table.Apply(clock(), c.gone)
	n.table.Configure(clock(), tableOptions(&c.cfg))
	n.guard.configure(&c.cfg)
	for _, u := range c.added {
		n.warnOfCopies(u.Addr)
	}
	n.register.Configure(n.registerSettings(&c.cfg))
	n.configureGroup()
	n.captures.setRate(c.cfg.CaptureRate)
	n.traffic.Configure(trafficLimits(&c.cfg))
	select {
	case n.reannounce <- struct{}{}:
	default:
	}
	e := n.flooding.current()
	switch {
	case c.engine != nil:
		if !n.flooding.replace(c.engine) {
			_ = c.engine.Close() // the node has stopped meanwhile
		}
	case e != nil && !floods(&c.cfg):
		n.flooding.replace(nil)
	case e != nil:
		configureEngine(e, &c.cfg)
	}
}

// Discard leaves the node as it was before Prepare.
func (c *Change) Discard() {
	defer func() { <-c.n.changing }()
	c.undo()
}

// undo is Discard for who has to go on with static members.
func (c *Change) undo() {
	if c.engine != nil {
		_ = c.engine.Close() // it has never run
	}
	for i := range c.added {
		c.added[i].Holdtime = 0
	}
	c.n.table.Apply(clock(), c.added)
	old := c.n.config()
	c.n.table.Configure(clock(), tableOptions(&old))
}
