// SPDX-License-Identifier: Apache-2.0

package flood

import (
	"context"
	"errors"
	"hash/maphash"
	"math"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"

	"vxsnd/internal/fdb"
	"vxsnd/internal/metrics"
	"vxsnd/internal/sock"
	"vxsnd/internal/vxlan"
)

const (
	// sendBuffer is the send buffer of a worker's raw socket, bytes, where
	// CAP_NET_ADMIN allows it. A neighbour that does not resolve keeps up to
	// unres_qlen_bytes (212,992 by default, arp(7)) of it for seconds.
	sendBuffer = 32 << 20

	// slowBuffer is the send buffer for members that do not resolve, bytes.
	slowBuffer = 256 << 10

	// reportEvery is the shortest time between two reports of the same thing.
	reportEvery = time.Minute
)

// RawConfig is what the engine raw is made of.
type RawConfig struct {
	// Listen has the addresses that VTEPs send to.
	Listen []netip.AddrPort
	// DestPort is the UDP port of copies to members that name none.
	DestPort uint16
	// VRF names the VRF device whose routes copies take, or none.
	VRF string
	// Workers is the number of workers per listening address, at least 1.
	Workers int
	// CPUs are those that workers are pinned to, in turn; none pins no worker.
	CPUs []int
	// Receive is the receive buffer of each socket, bytes.
	Receive int
	// Clock tells the time that the table goes by.
	Clock      func() fdb.Time
	Neighbours Neighbours
	Settings   Settings
	// Traffic counts per VNI and per sender, and Latency how long packets take
	// from the kernel's receipt to their last copy; nil does not count. They
	// outlive the engine.
	Traffic *metrics.Traffic
	Latency *metrics.Latency
	Log     logrus.FieldLogger
}

// Neighbours knows the neighbours that do not resolve; *underlay.Underlay does.
// Its methods are called concurrently.
type Neighbours interface {
	// Unresolved returns their addresses, nil if there are none. The set is
	// not modified afterwards.
	Unresolved() map[netip.Addr]struct{}
	// Recheck looks for them anew, and returns when Unresolved shows them or
	// after wait.
	Recheck(wait time.Duration)
}

// Raw is the engine that works everywhere and that others are measured by: a
// UDP socket per worker to receive, a raw socket to send, system calls in
// batches.
type Raw struct {
	cfg      RawConfig
	table    Table
	settings atomic.Pointer[Settings]
	tap      atomic.Pointer[Tap]
	done     atomic.Pointer[func([]Flow)]
	loops    *loopDetector
	workers  []*worker
	stats    []metrics.Flood // one per worker
	stopping atomic.Bool

	mu      sync.Mutex   // guards what follows once Listen has returned
	conns   []*sock.Conn // receiving, parallel to workers
	sockets []socket     // all
}

// A socket is any that Listen opened.
type socket interface {
	Queued() (receive, send int)
	Close() error
}

// NewRaw returns the engine, inert.
func NewRaw(c RawConfig, table Table) *Raw {
	r := &Raw{cfg: c, table: table, loops: newLoopDetector()}
	r.settings.Store(&c.Settings)
	return r
}

// String returns "raw".
func (r *Raw) String() string { return "raw" }

// Listen opens the sockets of all workers. Its errors are those of package
// sock, wrapped: sock.IsInUse and sock.IsPrivilege sort them.
func (r *Raw) Listen() (err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, r.Close())
		}
	}()
	r.stats = make([]metrics.Flood, len(r.cfg.Listen)*r.cfg.Workers)
	for _, addr := range r.cfg.Listen {
		if err := r.probe(addr); err != nil {
			return err
		}
		for range r.cfg.Workers {
			if err := r.addWorker(addr); err != nil {
				return err
			}
		}
	}
	if len(r.conns) > 0 {
		if got := r.conns[0].ReceiveBuffer(); got < r.cfg.Receive {
			r.cfg.Log.WithFields(logrus.Fields{"task": "flood", "wanted": r.cfg.Receive, "got": got}).
				Warn("receive buffer capped by net.core.rmem_max")
		}
	}
	return nil
}

// probe binds the address once without SO_REUSEPORT. With it alone a second
// instance would bind silently and take its share of the flows.
func (r *Raw) probe(addr netip.AddrPort) error {
	c, err := sock.ListenData(sock.DataConfig{Addr: addr, VRF: r.cfg.VRF})
	if err != nil {
		return err
	}
	return c.Close()
}

func (r *Raw) addWorker(addr netip.AddrPort) error {
	conn, err := sock.ListenData(sock.DataConfig{
		Addr: addr, VRF: r.cfg.VRF, Receive: r.cfg.Receive, Timeout: tick, Shared: true, Stamp: true,
	})
	if err != nil {
		return err
	}
	r.sockets = append(r.sockets, conn)
	l, err := r.newLane(addr.Addr())
	if err != nil {
		return err
	}
	l.latency, l.local = r.cfg.Latency, addr
	w := &worker{
		lane:     *l,
		conn:     conn,
		loops:    r.loops,
		done:     &r.done,
		flows:    make([]Flow, 0, receiveBatch),
		clock:    r.cfg.Clock,
		settings: func() Settings { return *r.settings.Load() },
		in:       sock.NewInbox(receiveBatch),
		packets:  make([]Packet, 0, receiveBatch),
		lookups:  make([]fdb.Lookup, 0, receiveBatch),
		stats:    &r.stats[len(r.workers)],
	}
	w.alive.Store(int64(r.cfg.Clock()))
	r.workers = append(r.workers, w)
	r.conns = append(r.conns, conn)
	return nil
}

func (r *Raw) newLane(like netip.Addr) (*lane, error) {
	main, err := r.newQueue(like, sendBuffer)
	if err != nil {
		return nil, err
	}
	slow, err := r.newQueue(like, slowBuffer)
	if err != nil {
		return nil, err
	}
	main.full, main.wait = metrics.DropBlocked, true
	slow.full = metrics.DropUnresolved
	return &lane{
		v4: like.Is4(), port: r.cfg.DestPort, main: main, slow: slow, neighbours: r.cfg.Neighbours,
		table: r.table, taps: &r.tap, tally: r.cfg.Traffic.Tally(),
		learned:  make([]fdb.Learned, 0, receiveBatch),
		accounts: make([]metrics.Delta, 0, receiveBatch),
	}, nil
}

// newQueue opens the sockets of a queue, with send buffers of this size.
func (r *Raw) newQueue(like netip.Addr, buffer int) (queue, error) {
	conn, err := sock.OpenRaw(like, r.cfg.VRF, buffer)
	if err != nil {
		return queue{}, err
	}
	r.sockets = append(r.sockets, conn)
	frag, err := sock.OpenFragmenter(like, r.cfg.VRF, buffer)
	if err != nil {
		return queue{}, err
	}
	r.sockets = append(r.sockets, frag)
	return queue{conn: conn, frag: frag, out: sock.NewOutbox(sendBatch, like)}, nil
}

// Run replicates until ctx is done, then what is queued in the sockets, for at
// most two seconds.
func (r *Raw) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for i, w := range r.workers {
		wg.Go(func() {
			// The thread ends with the goroutine, and its affinity with it.
			runtime.LockOSThread()
			name(i)
			r.pin(i)
			r.hasten()
			w.run(r.stopping.Load)
		})
	}
	r.watch(ctx)
	r.stopping.Store(true)
	for _, c := range r.conns {
		if err := c.Refuse(); err != nil {
			r.cfg.Log.WithField("task", "flood").WithError(err).Warn("packets still arrive while the node stops")
		}
		c.Wake()
	}
	wg.Wait()
	return nil
}

// watch reports what workers notice, until ctx is done.
func (r *Raw) watch(ctx context.Context) {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	var reported uint64
	var last time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-t.C:
			n, l := r.loops.report()
			if n == reported || !last.IsZero() && now.Sub(last) < reportEvery {
				continue
			}
			r.cfg.Log.WithFields(logrus.Fields{
				"task": "flood", "vni": l.vni, "src": l.src, "ttl": l.then, "ttl_before": l.first, "count": n - reported,
			}).Warn("packet came back: another service node floods to this one without being its peer")
			reported, last = n, now
		}
	}
}

// Sampled takes in a packet that another engine has flooded and picked for a
// look, of which Payload is the beginning alone, of size bytes. It tells whether
// the packet was here before with a higher TTL; Run reports those.
func (r *Raw) Sampled(now fdb.Time, vni vxlan.VNI, p Packet, size int) bool {
	h := maphash.Bytes(r.loops.seed, p.Payload) ^ maphash.Comparable(r.loops.seed, size)
	return r.loops.remember(now, vni, &p, h)
}

// Close releases all sockets.
func (r *Raw) Close() error {
	now := int64(r.cfg.Clock())
	for _, w := range r.workers {
		w.tally.Close(now)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	var errs []error
	for _, s := range r.sockets {
		errs = append(errs, s.Close())
	}
	r.sockets, r.conns = nil, nil
	return errors.Join(errs...)
}

// Configure replaces the settings from the next batch on.
func (r *Raw) Configure(s Settings) { r.settings.Store(&s) }

// Divert does nothing: all packets pass through user space.
func (r *Raw) Divert(vxlan.VNI, bool) {}

// SetTap puts a tap in the place of the one that is there.
func (r *Raw) SetTap(t *Tap) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, c := range r.conns {
		// Where the socket is bound to one address, each packet was sent to that.
		if local := r.workers[i].local.Addr(); local.IsUnspecified() {
			if err := c.ShowDestination(local, t != nil); err != nil {
				r.cfg.Log.WithField("task", "flood").WithError(err).Warn("packets do not tell where they were sent to")
			}
		}
	}
	r.tap.Store(t)
}

// Backlog returns the memory of what is queued in all sockets, bytes.
func (r *Raw) Backlog() (receive, send int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.sockets {
		in, out := s.Queued()
		receive += in
		send += out
	}
	return receive, send
}

// Counters returns the figures of all workers.
func (r *Raw) Counters() metrics.FloodCount {
	var c metrics.FloodCount
	for i := range r.stats {
		c = c.Plus(r.stats[i].Load())
	}
	return c
}

// Alive returns when the slowest worker last came around its loop.
func (r *Raw) Alive() fdb.Time {
	oldest := fdb.Time(math.MaxInt64)
	for _, w := range r.workers {
		oldest = min(oldest, fdb.Time(w.alive.Load()))
	}
	return oldest
}

var _ Engine = (*Raw)(nil)
