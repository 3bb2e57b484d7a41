// SPDX-License-Identifier: Apache-2.0

// Package tc is the engine that replicates in the kernel: a program in the
// ingress hook of the underlay's devices copies the packets of known VNIs, and
// what it does not know goes up to the engine raw.
package tc

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sync/errgroup"

	"vxsnd/internal/fdb"
	"vxsnd/internal/flood"
	"vxsnd/internal/logging"
	"vxsnd/internal/metrics"
	"vxsnd/internal/vxlan"
)

// Config is what the engine is made of.
type Config struct {
	// Raw floods what the kernel does not. The engine owns it.
	Raw   *flood.Raw
	Table Table
	// Required has Listen fail where the kernel does not flood; else raw does.
	Required bool
	// Listen has the addresses that VTEPs send to, IPv6 ones of no account here. A
	// wildcard stands for all addresses of the machine or, with a VRF, of that.
	Listen []netip.AddrPort
	// DestPort is the UDP port of copies.
	DestPort uint16
	// VRF names the VRF device whose routes copies take, or none.
	VRF string
	// MaxVNIs is how many VNIs there may be.
	MaxVNIs int
	// Clock tells the time that the table goes by, CLOCK_MONOTONIC.
	Clock    func() fdb.Time
	Flood    flood.Settings
	Settings Settings
	// Traffic counts per VNI and sender; nil counts nothing.
	Traffic *metrics.Traffic
	Log     logrus.FieldLogger
}

// Settings are what may change while the engine runs, besides flood.Settings.
type Settings struct {
	// MaxMembers is up to how many members a VNI is flooded in the kernel, 1 to
	// 4095. All copies of a packet leave in one go.
	MaxMembers int
	// LearnHoldtime is how long a learned member lives after a packet.
	LearnHoldtime time.Duration
	// Interfaces are the devices where the program takes packets; none are those by
	// which members are reached.
	Interfaces []string
}

// Tc is the engine. Its methods may be called as flood.Engine says; Adjust and
// Status at any time between Listen and Close.
type Tc struct {
	cfg Config
	log logrus.FieldLogger

	mu       sync.Mutex // guards what follows
	side     *side      // nil while the program is not there
	reason   error      // why not
	flood    flood.Settings
	settings Settings
	diverted map[vxlan.VNI]struct{}
	past     counted // of sides that have ended

	repeats logging.Limiter

	// inside runs f in the network namespace of the engine: devices are those of
	// whoever asks. It is another function in tests alone.
	inside func(f func() error) error
}

// New returns the engine, inert.
func New(c Config) *Tc {
	return &Tc{
		cfg: c, log: logging.OrDiscard(c.Log).WithField("task", "flood"), flood: c.Flood, settings: c.Settings,
		diverted: make(map[vxlan.VNI]struct{}),
		inside:   func(f func() error) error { return f() },
	}
}

// ErrNotPossible is the error of Listen where the engine is required and the
// kernel cannot flood. What comes with it says why: unix.EPERM for a capability
// that is missing, ErrChecksum for a setting.
var ErrNotPossible = errors.New("the kernel cannot flood")

// ErrChecksum says that settings ask for what the program cannot do: a checksum
// takes all of a packet.
var ErrChecksum = errors.New("copies are to have a UDP checksum")

// String returns "tc" while the kernel floods, else "raw".
func (t *Tc) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.obstacle() == nil {
		return "tc"
	}
	return t.cfg.Raw.String()
}

// obstacle returns why the kernel does not flood, nil if it does. t.mu is held.
func (t *Tc) obstacle() error {
	switch {
	case t.side == nil:
		return t.reason
	case t.flood.Checksum:
		return ErrChecksum
	}
	return nil
}

// Listen opens the sockets of raw, and what it takes to flood in the kernel. Where
// that is not to be had the error matches ErrNotPossible, if it is required;
// else the log says why not.
func (t *Tc) Listen() error {
	if err := t.cfg.Raw.Listen(); err != nil {
		return err
	}
	s, err := t.open()
	if err == nil && t.cfg.Required && t.cfg.Flood.Checksum {
		s.close()
		err = ErrChecksum
	}
	switch {
	case err == nil:
		t.begin(s)
	case t.cfg.Required:
		return errors.Join(fmt.Errorf("engine tc: %w: %w", ErrNotPossible, err), t.cfg.Raw.Close())
	default:
		t.mu.Lock()
		t.reason = err
		t.mu.Unlock()
		t.tell(err)
	}
	return nil
}

// begin has a side flood, with the settings of now.
func (t *Tc) begin(s *side) {
	t.mu.Lock()
	t.side, t.reason = s, nil
	for v := range t.diverted {
		s.mirror.hold(v, true)
	}
	s.configure(t.mirrorSettings(), t.settings.Interfaces)
	obstacle := t.obstacle()
	t.mu.Unlock()
	t.tell(obstacle)
}

// tell says whether the kernel floods from now on, and why.
func (t *Tc) tell(obstacle error) {
	if obstacle == nil {
		t.log.WithFields(logrus.Fields{"engine": "tc", "reason": t.chosen()}).
			Info("packets are flooded in the kernel, and by raw where it leaves them")
		return
	}
	t.log.WithField("engine", "raw").WithError(obstacle).Info("packets are not flooded in the kernel")
}

// chosen tells why the kernel floods.
func (t *Tc) chosen() string {
	if t.cfg.Required {
		return "engine = tc"
	}
	return "engine = auto, and the kernel takes the program"
}

// Run floods until ctx is done: then the kernel stops, and raw with what is queued
// by then. A kernel that fails leaves everything to raw until it works again.
func (t *Tc) Run(ctx context.Context) error {
	raw, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	kernel, end := context.WithCancel(ctx)
	defer end()
	g, raw := errgroup.WithContext(raw)
	g.Go(func() error {
		defer end()
		return t.cfg.Raw.Run(raw)
	})
	g.Go(func() error {
		defer stop()
		t.keep(kernel)
		return nil
	})
	return g.Wait()
}

// keep floods in the kernel, as long and as often as that is possible, until ctx
// is done.
func (t *Tc) keep(ctx context.Context) {
	s := t.current()
	if s == nil {
		// What was not possible at the start is not tried again: a capability does
		// not come back, and a kernel stays as it is.
		<-ctx.Done()
		return
	}
	for again := firstRetry; ; again = min(2*again, lastRetry) {
		if s != nil {
			began := time.Now()
			err := s.run(ctx)
			t.retire(s, err)
			if ctx.Err() != nil {
				return
			}
			if time.Since(began) > lastRetry {
				again = firstRetry
			}
			t.log.WithError(err).WithField("interval", again).Warn("the kernel has stopped flooding, raw floods")
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(again):
		}
		err := t.inside(func() (err error) {
			s, err = t.open()
			return err
		})
		if err == nil {
			t.begin(s)
			continue
		}
		s = nil
		t.mu.Lock()
		t.reason = err
		t.mu.Unlock()
		t.log.WithError(err).Debug("the kernel does not flood yet")
	}
}

// firstRetry and lastRetry bound the pause before the kernel is tried again.
const (
	firstRetry = time.Second
	lastRetry  = time.Minute
)

func (t *Tc) current() *side {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.side
}

// retire closes a side that has ended for a reason, and keeps its figures.
func (t *Tc) retire(s *side, reason error) {
	s.close()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.past.add(s.counted())
	t.side, t.reason = nil, cmp.Or(reason, errEnded)
}

var errEnded = errors.New("the engine has ended")

// Close releases what Listen opened, after Run.
func (t *Tc) Close() error {
	if s := t.current(); s != nil { // it has never run
		t.retire(s, nil)
	}
	return t.cfg.Raw.Close()
}

// Configure replaces the settings, for the kernel soon.
func (t *Tc) Configure(s flood.Settings) {
	t.cfg.Raw.Configure(s)
	t.mu.Lock()
	before := t.obstacle()
	t.flood = s
	obstacle := t.obstacle()
	t.mu.Unlock()
	t.adjust()
	if (obstacle == nil) != (before == nil) {
		t.tell(obstacle)
	}
}

// Adjust replaces the engine's own settings, soon. It is called too where options
// of the table have changed.
func (t *Tc) Adjust(s Settings) {
	t.mu.Lock()
	t.settings = s
	t.mu.Unlock()
	t.adjust()
}

func (t *Tc) adjust() {
	t.mu.Lock()
	s, m, names := t.side, t.mirrorSettings(), t.settings.Interfaces
	t.mu.Unlock()
	if s != nil {
		s.configure(m, names)
	}
}

// mirrorSettings are those of now; t.mu is held.
func (t *Tc) mirrorSettings() mirrorSettings {
	return mirrorSettings{most: t.settings.MaxMembers, hold: t.settings.LearnHoldtime, raw: t.flood.Checksum}
}

// Divert has raw replicate each packet of the VNI while on is set. When it
// returns that is so for packets which come from now on.
func (t *Tc) Divert(v vxlan.VNI, on bool) {
	t.mu.Lock()
	if on {
		t.diverted[v] = struct{}{}
	} else {
		delete(t.diverted, v)
	}
	s := t.side
	t.mu.Unlock()
	if s != nil {
		s.divert(v, on)
	}
}

// SetTap gives raw a tap, which sees packets of VNIs that are diverted.
func (t *Tc) SetTap(tap *flood.Tap) { t.cfg.Raw.SetTap(tap) }

// Backlog is that of raw: the kernel queues nothing here.
func (t *Tc) Backlog() (receive, send int) { return t.cfg.Raw.Backlog() }

// Counters returns the figures of raw and of the kernel, the latter as of some
// moment in the last second, or since the last Sync.
func (t *Tc) Counters() metrics.FloodCount {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.past
	if t.side != nil {
		c.add(t.side.counted())
	}
	return t.cfg.Raw.Counters().Plus(c.flood)
}

// Alive returns when the slowest part of the engine last showed that it lives.
func (t *Tc) Alive() fdb.Time {
	alive := t.cfg.Raw.Alive()
	if s := t.current(); s != nil {
		alive = min(alive, s.alive())
	}
	return alive
}

var _ flood.Engine = (*Tc)(nil)
