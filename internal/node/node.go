// SPDX-License-Identifier: Apache-2.0

// Package node is the service node: it builds the parts from a Config, opens
// what they need, runs them and stops them in order. The parts know nothing
// of each other; what one needs of another is handed to it here.
package node

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"vxsnd/internal/anycast"
	"vxsnd/internal/config"
	"vxsnd/internal/fdb"
	"vxsnd/internal/flood"
	"vxsnd/internal/logging"
	"vxsnd/internal/metrics"
	"vxsnd/internal/peer"
	"vxsnd/internal/register"
	"vxsnd/internal/sock"
	"vxsnd/internal/underlay"
)

// A Node is one service node. New, Listen, Run and Close are called in this
// order, each at most once and by one goroutine. The other methods are for the
// time between Listen and the end of Run, and may be called concurrently unless
// they say otherwise.
type Node struct {
	log      logrus.FieldLogger
	table    *fdb.Table
	underlay *underlay.Underlay
	control  []register.Conn
	register *register.Server
	group    *peer.Group
	flooding *flooding
	guard    *guard
	repeats  logging.Limiter
	ready    chan struct{} // closed when the node serves
	swept    atomic.Int64  // fdb.Time of the last sweep
	began    atomic.Int64  // fdb.Time of the start
	meter    meter

	ran        bool          // Run has been called
	reannounce chan struct{} // holds a value when the service address may be another matter

	grouping sync.Mutex // held while the group is configured

	// changing holds a value while static members are changed, or are about to be:
	// from Prepare to Commit or Discard, and for each command of an operator.
	changing chan struct{}

	traffic  *metrics.Traffic
	latency  metrics.Latency
	captures *captures

	mu      sync.Mutex // guards what follows
	cfg     config.Config
	anycast *anycast.Address // nil while none is kept
}

// New builds a node, inert: it opens nothing and needs no privilege. An error
// says what of the configuration cannot be built.
func New(cfg config.Config, log logrus.FieldLogger) (*Node, error) {
	log = logging.OrDiscard(log)
	n := &Node{
		cfg: cfg, log: log, table: fdb.New(tableOptions(&cfg)), captures: newCaptures(cfg.CaptureRate),
		traffic: metrics.NewTraffic(trafficLimits(&cfg)),
		ready:   make(chan struct{}), reannounce: make(chan struct{}, 1), changing: make(chan struct{}, 1),
	}
	n.flooding = newFlooding(n.captures)
	n.guard = newGuard(&cfg, n.table, log)
	add, _ := memberChanges(nil, cfg.VTEPMembership)
	if _, no := n.addMembers(add); no != nil {
		return nil, no.ofConfiguration()
	}
	return n, nil
}

// config returns the configuration that is in force.
func (n *Node) config() config.Config {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.cfg
}

// Ready is closed when the node serves: all sockets are bound, and a peer's
// table is taken in or waited for no longer.
func (n *Node) Ready() <-chan struct{} { return n.ready }

// floods tells whether a node with this configuration floods packets.
func floods(c *config.Config) bool { return c.EnableVXLANListen && !c.NoFlood }

// clock reads CLOCK_MONOTONIC, which the kernel's own programs go by too.
func clock() fdb.Time {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		panic("node: read CLOCK_MONOTONIC: " + err.Error())
	}
	return fdb.Time(ts.Nano())
}

func tableOptions(c *config.Config) fdb.Options {
	return fdb.Options{
		Limits: fdb.Limits{
			VNIs:        c.Limits.MaxVNIs,
			Members:     c.Limits.MaxMembers,
			Entries:     c.Limits.MaxEntries,
			Learned:     c.Limits.MaxLearned,
			MaxHoldtime: c.Limits.MaxHoldtime,
		},
		Learning:      learning[c.Learning],
		LearnHoldtime: holdtime(c.Holdtime),
	}
}

// The enumerations of the configuration and of the packages that know nothing of it.
var (
	learning = map[config.Learning]fdb.Learning{
		config.LearnOff: fdb.LearnOff, config.LearnKnown: fdb.LearnKnown, config.LearnAny: fdb.LearnAny,
	}
	oversize = map[config.Oversize]flood.Oversize{
		config.OversizeFragment: flood.Fragment, config.OversizeDrop: flood.Discard,
	}
)

func holdtime(d time.Duration) time.Duration {
	if d >= config.HoldtimeStatic {
		return fdb.Static
	}
	return d
}

func floodSettings(c *config.Config) flood.Settings {
	return flood.Settings{Oversize: oversize[c.Oversize], Checksum: c.UDPChecksum == config.ChecksumCompute}
}

// Listen opens all sockets. Errors match ErrBind or ErrPrivilege where they
// are of that kind, and carry a hint (see Hint). Where it fails, Close
// releases what was opened.
func (n *Node) Listen(ctx context.Context) error {
	var err error
	if n.underlay, err = underlay.Open(n.cfg.VRF, n.log); err != nil {
		return n.explainVRF(err)
	}
	own, err := n.underlay.Addresses()
	if err != nil {
		return n.explain(err)
	}
	n.guard.setOwn(own)
	n.checkAddresses(own)
	n.swept.Store(int64(clock())) // Alive counts from now
	n.began.Store(int64(clock()))

	// The control socket comes first: it is shared with nobody, so a second
	// node on this address ends here.
	for _, addr := range controlAddrs(&n.cfg) {
		c, err := sock.ListenControl(ctx, addr, n.cfg.VRF)
		if err != nil {
			return n.explain(err)
		}
		n.control = append(n.control, c)
	}
	n.group = n.newGroup()
	if err := n.group.Listen(ctx); err != nil {
		return n.explain(err)
	}
	n.register = register.New(register.Options{
		Conns: n.control, Table: n.table, Relayer: n.group, Now: clock, Log: n.log, Settings: n.registerSettings(&n.cfg),
	})
	if err := n.mayInstall(&n.cfg); err != nil {
		return n.explain(err)
	}
	if !floods(&n.cfg) {
		return nil
	}
	engine, err := n.newEngine(&n.cfg)
	if err != nil {
		return n.explain(err)
	}
	n.flooding.set(engine)
	return nil
}

// newEngine returns an engine that listens.
func (n *Node) newEngine(c *config.Config) (flood.Engine, error) {
	cpus, err := allowedCPUs()
	if err != nil {
		return nil, err
	}
	workers := c.Workers
	if workers == 0 {
		workers = len(cpus)
	}
	raw := flood.NewRaw(flood.RawConfig{
		Listen:     dataAddrs(c),
		DestPort:   c.VXLANDestPort,
		VRF:        c.VRF,
		Workers:    workers,
		CPUs:       cpus,
		Receive:    c.ReceiveQueue,
		Clock:      clock,
		Neighbours: n.underlay,
		Settings:   floodSettings(c),
		Traffic:    n.traffic,
		Latency:    &n.latency,
		Log:        n.log,
	}, n.table)
	var engine flood.Engine = raw
	if c.Engine != config.EngineRaw {
		engine = n.aroundRaw(c, raw)
	}
	if err := engine.Listen(); err != nil {
		return nil, err
	}
	n.log.WithFields(logrus.Fields{"engine": engine, "count": workers}).Debug("flood workers set up")
	return engine, nil
}

// controlAddrs are the addresses of control messages: svcnode_ip and src_ip,
// or the wildcard once where either is the wildcard (docs/protocol.md, section 1).
func controlAddrs(c *config.Config) []netip.AddrPort {
	ips := []netip.Addr{c.SvcnodeIP, c.SrcIP}
	if c.SrcIP.IsUnspecified() {
		ips = []netip.Addr{unspecified(c.SvcnodeIP)}
	}
	return addrPorts(ips, c.VxfldPort)
}

// dataAddrs are the addresses of VXLAN packets: svcnode_ip and, where it is
// set, src_ip.
func dataAddrs(c *config.Config) []netip.AddrPort {
	ips := []netip.Addr{c.SvcnodeIP}
	if !c.SrcIP.IsUnspecified() {
		ips = append(ips, c.SrcIP)
	}
	return addrPorts(ips, c.VXLANListenPort)
}

// addrPorts drops what is there twice, and what a wildcard covers.
func addrPorts(ips []netip.Addr, port uint16) []netip.AddrPort {
	var out []netip.AddrPort
	for _, a := range ips {
		if !a.IsUnspecified() && slices.Contains(ips, unspecified(a)) {
			continue
		}
		if ap := netip.AddrPortFrom(a, port); !slices.Contains(out, ap) {
			out = append(out, ap)
		}
	}
	return out
}

// unspecified returns the wildcard of the family of a.
func unspecified(a netip.Addr) netip.Addr {
	if a.Is4() {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}

// allowedCPUs returns the CPUs that the process may run on, in order.
func allowedCPUs() ([]int, error) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return nil, fmt.Errorf("read cpu affinity: %w", err)
	}
	var cpus []int
	for cpu := range len(set) * 64 {
		if set.IsSet(cpu) {
			cpus = append(cpus, cpu)
		}
	}
	if len(cpus) == 0 {
		return nil, errors.New("read cpu affinity: no cpu allowed")
	}
	return cpus, nil
}

// checkAddresses warns of addresses that make the node deaf or send to itself.
func (n *Node) checkAddresses(own []netip.Addr) {
	if a := n.cfg.SvcnodeIP; !a.IsUnspecified() && !installs(&n.cfg) && !slices.Contains(own, a) {
		n.log.WithField("local", a).Warn("svcnode_ip is not an address of this machine: nothing arrives there until it is")
	}
	if a := n.cfg.SrcIP; !a.IsUnspecified() && !slices.Contains(own, a) {
		n.log.WithField("local", a).Warn("src_ip is not an address of this machine: nothing arrives there until it is")
	}
	for _, m := range n.cfg.VTEPMembership {
		n.warnOfCopies(m.Addr)
	}
}

// warnOfCopies warns of a static member that gets no copies, for what the
// configuration alone does not tell.
func (n *Node) warnOfCopies(a netip.Addr) {
	if n.table.Excluded(a) == fdb.ExcludedOwn {
		n.log.WithField("vtep", a).Warn("static member gets no copies: it is an address of this machine")
	} else if n.isBroadcast(a) {
		n.log.WithField("vtep", a).Warn("static member gets no copies: it is a broadcast address")
	}
}

// Run serves until ctx is done, then ends the parts in order and returns nil.
// It returns an error if a part fails.
func (n *Node) Run(ctx context.Context) error {
	// Flood workers keep a thread each, mostly in system calls. With as many
	// slots again, the registration goroutines never wait for one of them.
	runtime.GOMAXPROCS(2 * runtime.NumCPU())

	// The parts go on while the service address is withdrawn, and end then.
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	g, gctx := errgroup.WithContext(serving)
	g.Go(func() error { return n.underlay.Run(gctx, n.guard.setOwn) })
	g.Go(func() error { return n.guard.resolve(gctx) })
	g.Go(func() error { return n.sweep(gctx) })
	g.Go(func() error { return n.forget(gctx) })
	n.control, n.ran = nil, true // Run closes the sockets of registration and group
	g.Go(func() error { return n.register.Run(gctx) })
	g.Go(func() error { return n.flooding.run(gctx) })
	g.Go(func() error { return n.runGroup(gctx) })
	g.Go(func() error {
		select {
		case <-n.group.Synced():
			n.group.SetReady()
			n.logReady()
			close(n.ready)
		case <-gctx.Done():
		}
		return nil
	})
	g.Go(func() error {
		defer stop()
		actx, cancel := context.WithCancel(gctx)
		defer cancel()
		defer context.AfterFunc(ctx, cancel)()
		return n.announce(actx, gctx)
	})
	err := g.Wait()
	n.logStopped()
	return err
}

// Close releases all sockets, after Run has returned or Listen has failed.
func (n *Node) Close() error {
	var errs []error
	errs = append(errs, n.flooding.close())
	for _, c := range n.control {
		errs = append(errs, c.Close())
	}
	if n.group != nil && !n.ran {
		errs = append(errs, n.group.Close())
	}
	if a := n.address(); a != nil {
		errs = append(errs, a.Release())
	}
	if n.underlay != nil {
		n.underlay.Close()
	}
	return errors.Join(errs...)
}
