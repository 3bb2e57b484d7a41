// SPDX-License-Identifier: Apache-2.0

package tc

import (
	"maps"
	"net/netip"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"vxsnd/internal/fdb"
	"vxsnd/internal/logging"
	"vxsnd/internal/underlay"
	"vxsnd/internal/vxlan"
)

// Table is what the mirror needs of the table; *fdb.Table has it.
type Table interface {
	Subscribe(capacity int, kinds fdb.Kinds) *fdb.Feed
	VNIs(dst []vxlan.VNI) []vxlan.VNI
	Mirror(now fdb.Time, vni vxlan.VNI, most int, dst []fdb.Mirrored) (_ []fdb.Mirrored, all bool)
	MirrorOne(now fdb.Time, vni vxlan.VNI, addr netip.Addr) (fdb.Mirrored, bool)
	LookupBatch(now fdb.Time, ls []fdb.Lookup)
	Learn(now fdb.Time, ls []fdb.Learned) fdb.Result
}

// controls are what the mirror does to the program besides stores to memory;
// *kernel has them.
type controls interface {
	grow() (int, error)
	setVNI(vni, slot uint32) error
	deleteVNI(vni uint32) error
}

// A sink is told what the program counted, by the mirror's goroutine.
type sink interface {
	// flooded tells what became of packets of a VNI since it was told last.
	flooded(v vxlan.VNI, c slotCount)
	// sent tells what a member sent since it was told last.
	sent(v vxlan.VNI, a netip.Addr, s sighting)
}

// A slotCount is what the program counted for a VNI: bytes of UDP payload, and
// drops in the order of maps.bpf.h.
type slotCount struct {
	packets, bytes, copies, copyBytes uint64
	drops                             [numSlotDrops]uint64
}

// numSlotDrops is NUM_DROPS of maps.bpf.h.
const numSlotDrops = len(programSlot{}.Drops)

// A sighting is what the program counted of a member, and its share of what it
// counted for the VNI: see tell.
type sighting struct {
	addr                    netip.Addr
	seen                    fdb.Time
	packets, copies         uint32
	bytes, copyBytes, drops uint64
}

// A reason says why raw has a VNI.
type reason uint8

const (
	inKernel      reason = iota // it does not
	tooMany                     // more members than the cap
	otherFamily                 // a member is not IPv4
	pendingPath                 // the way to a member is being found out
	unfitPath                   // the way to a member is one for the IP stack alone
	held                        // somebody wants to see each packet
	noRoom                      // the maps are full
	notReplicated               // the settings ask for what the program cannot do
	numReasons
)

// reasonNames are stable: they appear in metrics.
var reasonNames = [numReasons]string{
	inKernel: "kernel", tooMany: "too_many_members", otherFamily: "family", pendingPath: "pending", unfitPath: "unfit",
	held: "held", noRoom: "no_room", notReplicated: "settings",
}

// mirrorSettings are what may change while the mirror runs.
type mirrorSettings struct {
	// most is how many members a VNI in the kernel may have, 1 to maxCount.
	most int
	// hold is how long a learned member lives after a packet.
	hold time.Duration
	// raw has raw do everything.
	raw bool
}

// mirrorMaps are the maps of the program.
type mirrorMaps struct {
	controls
	members  func(segment int) []programMember
	slots    []programSlot
	dests    []programDest
	devices  []programDevice
	settings *programSetting
	// grace returns when no run of the program goes on that began before the call.
	grace func() error
}

// mirrored returns the maps of k for a mirror.
func (k *kernel) mirrored() mirrorMaps {
	return mirrorMaps{
		controls: k, members: func(i int) []programMember { return k.members[i] },
		slots: k.slots, dests: k.dests, devices: k.devices, settings: k.settings, grace: grace,
	}
}

// mirrorOptions are what a mirror works with.
type mirrorOptions struct {
	table    Table
	maps     mirrorMaps
	paths    Paths
	settings mirrorSettings
	clock    func() fdb.Time // CLOCK_MONOTONIC, as the program's
	sink     sink
	log      logrus.FieldLogger
}

// A mirror keeps the maps equal to the table. Run does all the work; configure,
// hold, pathsChanged and status may be called concurrently, also before it.
// Where the mirror has ended the maps may be closed.
type mirror struct {
	mirrorOptions
	repeats logging.Limiter

	blocks *blocks
	dests  *dests
	vnis   map[vxlan.VNI]*vni
	list   []*vni
	spare  []uint32 // slots
	unused uint32   // the first slot that was never used

	now   mirrorSettings // in force
	holds map[vxlan.VNI]struct{}

	feed    *fdb.Feed
	changes []fdb.Change
	queue   []vxlan.VNI // to be updated
	dirty   map[vxlan.VNI]struct{}
	pass    pass
	ticked  fdb.Time // when expiries were looked at last
	looked  fdb.Time // when what the program counted was taken in last
	syncing chan struct{}
	synced  fdb.Time // before which no other sync begins
	lates   []*vni   // those with late members, and others
	// lateUntil is the earliest time of these.
	lateUntil fdb.Time

	gone    garbage      // what the program may still look at
	dying   chan garbage // to wait for a grace period
	waiting chan garbage // after it
	held    garbage      // after it, in the end

	// What update works with.
	work      int // records that were looked at, about
	sightings []sighting
	buffer    []fdb.Mirrored
	next      []uint32 // destinations of the members in buffer
	from      []int32  // where they were in the list of before
	lookup    [1]fdb.Lookup
	learn     [1]fdb.Learned

	stats mirrorStatus
	raws  [numReasons]int // VNIs by reason

	wake chan struct{}

	mu        sync.Mutex // guards what follows
	wanted    *mirrorSettings
	asked     map[vxlan.VNI]bool // to hold, or not to
	answers   []chan struct{}    // to who asked
	changed   map[netip.Addr]underlay.Path
	nextSync  chan struct{} // nil if nobody asks for it
	published mirrorStatus
	reasons   [numReasons]int
}

// A vni is one VNI as the maps have it.
type vni struct {
	id     vxlan.VNI
	index  int // in mirror.list
	slot   uint32
	at     position
	class  int // of the block
	count  int // members in the block; 0 where there is no block
	mtu    int
	why    reason
	listed bool // the program finds the slot
	// due is when the table has to be asked whether packets that raw took in have
	// raised an expiry, of which the feed does not tell.
	due fdb.Time
	// dests are the destinations of the members, parallel to the block; kept too
	// where the way to one of them, or somebody who looks, keeps the VNI with raw.
	dests []uint32
	// share is what the program counted for the VNI and no member has been told of.
	share slotCount
	// late are the destinations of members that are not in the block yet, until that
	// time.
	late      []uint32
	lateUntil fdb.Time
}

// garbage is what is let go of after a grace period.
type garbage struct {
	blocks []block
	slots  []uint32
	dests  []uint32
	idle   []int // devices
}

type block struct {
	vni   vxlan.VNI
	at    position
	class int
	count int
}

func (g *garbage) empty() bool {
	return len(g.blocks)+len(g.slots)+len(g.dests)+len(g.idle) == 0
}

// mirrorStatus is what a mirror tells of itself.
type mirrorStatus struct {
	// VNIs have members in the table; KernelVNIs of them are flooded by the program,
	// to Members members together. RawVNIs are the others by reason.
	VNIs, KernelVNIs, Members int
	RawVNIs                   map[string]int
	// Segments hold the members, Bytes in all: 32 MiB for a million members in VNIs
	// of 250 to 4000, 40 MiB in VNIs of 25.
	Segments, Bytes int
	// Pending are VTEPs whose way is being found out, and VNIs that are still to be
	// looked at.
	Pending int
	// Turned is when the mirror was at work last, and Synced when it had compared all
	// of the table with the maps.
	Turned, Synced fdb.Time
	// Lost counts how often there were more changes than the feed holds.
	Lost uint64
	// Differences counts members that a comparison found missing, surplus, or with
	// another expiry, and mended; there should be none.
	Differences uint64
}

// newMirror returns a mirror for maps that nobody has written to.
func newMirror(o mirrorOptions) *mirror {
	o.log = logging.OrDiscard(o.log)
	m := &mirror{
		mirrorOptions: o,
		blocks:        newBlocks(o.maps.grow),
		dests:         newDests(o.maps.dests, o.maps.devices, o.paths),
		vnis:          make(map[vxlan.VNI]*vni),
		now:           o.settings.sound(),
		holds:         make(map[vxlan.VNI]struct{}),
		dirty:         make(map[vxlan.VNI]struct{}),
		dying:         make(chan garbage, 1),
		waiting:       make(chan garbage, 1),
		wake:          make(chan struct{}, 1),
		lateUntil:     fdb.Never,
	}
	m.looked, m.ticked = o.clock(), o.clock()
	m.storeHold()
	return m
}

func (s mirrorSettings) sound() mirrorSettings {
	s.most = min(max(s.most, 1), maxCount)
	return s
}

// configure puts settings in force, soon. It is called too where the options of
// the table have changed, so that all of it is read again.
func (m *mirror) configure(s mirrorSettings) {
	m.mu.Lock()
	m.wanted = &s
	m.mu.Unlock()
	m.poke()
}

// hold keeps a VNI with raw, or gives it back. The channel that it returns is
// closed when that is in force, for packets that come from then on.
func (m *mirror) hold(v vxlan.VNI, on bool) <-chan struct{} {
	m.mu.Lock()
	if m.asked == nil {
		m.asked = make(map[vxlan.VNI]bool)
	}
	m.asked[v] = on
	done := make(chan struct{})
	m.answers = append(m.answers, done)
	m.mu.Unlock()
	m.poke()
	return done
}

// pathsChanged takes in ways that are others now.
func (m *mirror) pathsChanged(paths map[netip.Addr]underlay.Path) {
	m.mu.Lock()
	if m.changed == nil {
		m.changed = make(map[netip.Addr]underlay.Path, len(paths))
	}
	maps.Copy(m.changed, paths)
	m.mu.Unlock()
	m.poke()
}

func (m *mirror) poke() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// status returns what the mirror told of itself after its last turn.
func (m *mirror) status() mirrorStatus {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.published
	if s.Turned == 0 {
		s.Pending = 1 // nothing is read yet
	}
	s.RawVNIs = make(map[string]int, numReasons)
	for why, n := range m.reasons {
		if n > 0 && reason(why) != inKernel {
			s.RawVNIs[reasonNames[why]] = n
		}
	}
	return s
}

// publish tells of the mirror.
func (m *mirror) publish() {
	s := &m.stats
	s.Turned = m.clock()
	s.VNIs, s.KernelVNIs = len(m.list), m.raws[inKernel]
	s.Pending = len(m.queue) + m.dests.pending
	if m.pass.urgent {
		s.Pending += max(1, len(m.pass.vnis))
	}
	s.Segments = m.blocks.segments
	s.Bytes = s.Segments * segmentBytes
	m.mu.Lock()
	m.published, m.reasons = *s, m.raws
	m.mu.Unlock()
}
