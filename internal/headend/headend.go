// SPDX-License-Identifier: Apache-2.0

// Package headend keeps the flood lists of VXLAN devices in the kernel: for
// each list the members that somebody wants there. It owns the journal of what
// it has put there itself, and never touches anything else. Who is wanted is
// decided elsewhere, and how the kernel is spoken to is known to package
// underlay.
package headend

import (
	"context"
	"net/netip"
	"time"

	"github.com/sirupsen/logrus"

	"vxsnd/internal/underlay"
	"vxsnd/internal/vxlan"
)

// A Key names a flood list: that of one VNI of one device. A device that is
// made again under its name has another index, and a device that has the index
// of an earlier one may have another name: neither has the list of the former.
type Key struct {
	Device string // name
	Index  int
	VNI    vxlan.VNI
	// External tells that the device carries several VNIs (collect metadata), so
	// that entries of the kernel name theirs.
	External bool
}

// A Kernel has the flood entries: an underlay.FDB.
type Kernel interface {
	Read(index int) (underlay.FloodTable, error)
	Apply([]underlay.FloodChange) []error
}

// Settings may change while Run runs.
type Settings struct {
	// Interval is the time between two comparisons with the kernel; a minute
	// where it is not positive.
	Interval time.Duration
	// Devices names those that are programmed although another daemon manages
	// their entries.
	Devices []string
}

// Options say where the lists are.
type Options struct {
	// StateFile is the name of the journal.
	StateFile string
	// Namespace and BootID say where and since when entries of the kernel are the
	// same: see underlay.NamespaceID and underlay.BootID.
	Namespace, BootID string
	Kernel            Kernel
	Log               logrus.FieldLogger // nil discards
	Settings
}

// Lists are the flood lists of this machine. Methods may be called concurrently
// unless they say otherwise.
type Lists struct{}

// Open locks and reads the journal, and makes it where there is none. What is in
// the journal and in the kernel is own.
func Open(Options) (*Lists, error) { return &Lists{}, nil }

// String names the task.
func (l *Lists) String() string { return "headend" }

// Adopted returns the own entries of lists that were not named to Set, Drop or
// Keep since Open: the lists that worked before a restart.
func (l *Lists) Adopted() map[Key][]netip.Addr { return nil }

// Set names the members that are wanted in these lists, and no others. Lists
// that are not named stay as they are. Run does the rest.
func (l *Lists) Set(map[Key][]netip.Addr) {}

// Drop gives up lists: Run removes what is own in them.
func (l *Lists) Drop(...Key) {}

// Keep drops the adopted lists that are not in present.
func (l *Lists) Keep(map[Key]struct{}) {}

// Configure takes new settings, and compares with the kernel at once.
func (l *Lists) Configure(Settings) {}

// Run programs the kernel until ctx is done: at once what Set and Drop say, and
// in intervals what the kernel has lost. It is called once.
func (l *Lists) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

// Flush removes all own entries, for a stop for good. It is called after Run has
// returned.
func (l *Lists) Flush() error { return nil }

// Close lets go of the journal, after Run has returned. Entries stay, and are
// own again after the next Open.
func (l *Lists) Close() error { return nil }

// Status is how one list does.
type Status struct {
	Wanted  int    // members that are wanted
	Own     int    // entries that are own
	Foreign int    // entries that others made, when last looked
	Managed bool   // left alone: another daemon manages the device's entries
	Problem string // why it is not as it is wanted, or ""
}

// Status returns how all lists do.
func (l *Lists) Status() map[Key]Status { return nil }

// Cleanup removes what a daemon that was killed has left, and returns how many
// entries that were. It fails while the daemon runs.
func Cleanup(Options) (removed int, err error) { return 0, nil }
