// SPDX-License-Identifier: Apache-2.0

package headend

import (
	"context"
	"errors"
	"io/fs"
	"net/netip"
	"syscall"

	"github.com/sirupsen/logrus"

	"vxsnd/internal/underlay"
)

// groupSize is the largest number of changes between two looks at whether to
// stop. The kernel is read for each group.
const groupSize = 16384

// maxLogged bounds the addresses in a line of the log.
const maxLogged = 16

// split makes groups of groupSize changes at most.
func split(bs []batch) (groups [][]batch) {
	var group []batch
	room := groupSize
	for _, b := range bs {
		for len(b.addrs) > 0 {
			n := min(room, len(b.addrs))
			group = append(group, batch{b.list, b.addrs[:n:n]})
			b.addrs = b.addrs[n:]
			if room -= n; room == 0 {
				groups, group, room = append(groups, group), nil, groupSize
			}
		}
	}
	if len(group) > 0 {
		groups = append(groups, group)
	}
	return groups
}

// remove removes entries that are own, or may be.
func (l *Lists) remove(ctx context.Context, bs []batch) {
	for _, group := range split(bs) {
		if ctx.Err() != nil {
			return
		}
		l.apply(group, true)
	}
}

// add adds entries, each of which is in the journal before.
func (l *Lists) add(ctx context.Context, bs []batch) {
	var failed []*list
	for groups := split(bs); len(groups) > 0 && ctx.Err() == nil; groups = groups[1:] {
		if err := l.note(groups[0]); err != nil {
			l.brokenBy(err)
			for _, group := range groups {
				for _, b := range group {
					l.fail([]*list{b.list}, err)
				}
			}
			break
		}
		failed = append(failed, l.apply(groups[0], false)...)
	}
	// What became of an addition that failed is seen at once: if it were left
	// open, an entry of somebody else might be taken for own later.
	l.read(failed, false, false)
	l.tellPutBack(bs)
}

// note writes to the journal what is about to be added.
func (l *Lists) note(group []batch) error {
	if err := l.order(); err != nil {
		return err
	}
	var lines []byte
	for _, b := range group {
		lines = appendLines(lines, '+', b.list.key, without(b.addrs, b.list.unsure))
	}
	if err := l.journal.append(lines); err != nil {
		return err
	}
	l.mended()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, b := range group {
		b.list.unsure = union(b.list.unsure, b.addrs)
	}
	return nil
}

// apply has the kernel make a group of changes, and returns the lists whose
// additions it refused.
func (l *Lists) apply(group []batch, remove bool) (failed []*list) {
	var changes []underlay.FloodChange
	for _, b := range group {
		p := b.list.key.place()
		for _, a := range b.addrs {
			changes = append(changes, underlay.FloodChange{
				FloodEntry: underlay.FloodEntry{Index: p.index, VNI: p.vni, Dst: a}, Remove: remove})
		}
	}
	errs := l.kernel.Apply(changes)
	if errs == nil {
		errs = make([]error, len(changes))
	}
	var gone []byte
	for _, b := range group {
		o := outcomeOf(b.addrs, errs[:len(b.addrs)], remove)
		errs = errs[len(b.addrs):]
		gone = l.settle(gone, b.list, o, remove)
		if len(o.done) > 0 {
			message := "flood entries added"
			if remove {
				message = "flood entries removed"
			}
			l.log.WithFields(fieldsOf(b.list)).WithFields(logrus.Fields{"count": len(o.done), "vtep": o.done[:min(len(o.done), maxLogged)]}).Debug(message)
		}
		if o.err != nil {
			l.warn("change", "flood entries cannot be changed", o.err, fieldsOf(b.list))
			failed = append(failed, b.list)
		}
	}
	l.forget(gone)
	if remove {
		return nil
	}
	return failed
}

func fieldsOf(li *list) logrus.Fields {
	return logrus.Fields{"iface": li.key.Device, "vni": li.key.VNI}
}

// An outcome is what became of a batch.
type outcome struct {
	done    []netip.Addr // added, or gone
	foreign []netip.Addr // there already, so not ours
	lost    bool         // the device is gone, and what was on it
	err     error        // of what else failed, one of them
}

// outcomeOf sorts the kernel's answers to a batch.
func outcomeOf(addrs []netip.Addr, errs []error, remove bool) (o outcome) {
	for i, a := range addrs {
		switch err := errs[i]; {
		case err == nil, remove && errors.Is(err, fs.ErrNotExist):
			o.done = append(o.done, a)
		case errors.Is(err, syscall.ENODEV), remove && errors.Is(err, syscall.EOPNOTSUPP):
			// The index may be that of another kind of device now.
			o.lost = true
		case !remove && errors.Is(err, fs.ErrExist):
			o.foreign = append(o.foreign, a)
		default:
			o.err = err
		}
	}
	return o
}

// settle takes in what became of a batch, and adds to gone the lines of the
// journal about what is not own any more.
func (l *Lists) settle(gone []byte, li *list, o outcome, remove bool) []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	li.unsure = without(li.unsure, o.done)
	if remove {
		li.own = without(li.own, o.done)
		gone = appendLines(gone, '-', li.key, o.done)
	} else {
		li.own = union(li.own, o.done)
		li.unsure = without(li.unsure, o.foreign)
		li.foreign = union(li.foreign, o.foreign)
		gone = appendLines(gone, '-', li.key, o.foreign)
	}
	if o.err != nil {
		li.problem = o.err.Error()
	}
	if o.lost {
		gone = appendLines(gone, '-', li.key, union(li.own, li.unsure))
		li.own, li.unsure, li.foreign, li.problem = nil, nil, nil, "the device is gone"
	}
	li.share()
	return gone
}

// fail notes why lists are not as they are wanted.
func (l *Lists) fail(lists []*list, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, li := range lists {
		li.problem = err.Error()
	}
}

// warn logs what may repeat.
func (l *Lists) warn(key, message string, err error, fields logrus.Fields) {
	l.repeats.Do(key, func(count int) {
		l.log.WithError(err).WithFields(fields).WithField("count", count).Warn(message)
	})
}

// tellPutBack logs how many of the additions were own before.
func (l *Lists) tellPutBack(bs []batch) {
	count := 0
	for _, b := range bs {
		count += len(both(b.list.lost, b.list.own))
		b.list.lost = nil
	}
	if count > 0 {
		l.log.WithField("count", count).Info("flood entries that something else removed are put back")
	}
}
