// SPDX-License-Identifier: Apache-2.0

package tc

import (
	"context"
	"time"
)

// syncRest is the least time between two syncs, which look at each VNI: however
// many ask for figures, they cost next to nothing. After one that took long it is
// as many times that as syncShare.
const (
	syncRest  = 20 * time.Millisecond
	syncShare = 4
)

// Sync returns when all changes of the table and of settings that were made before
// the call are in the kernel, and what it has flooded by then is part of the figures
// and of the activity of members; at once where nothing is flooded in the kernel.
// What is not there yet for another reason Status has as Pending. It returns the
// error of ctx if that is done before.
func (t *Tc) Sync(ctx context.Context) error {
	if s := t.current(); s != nil {
		return s.sync(ctx)
	}
	return nil
}

func (s *side) sync(ctx context.Context) error {
	if !s.began.Load() {
		return nil
	}
	select {
	case <-s.mirror.sync():
	case <-s.ended:
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// sync has what has happened to the table by now taken in, and what the program
// has counted. The channel that it returns is closed then. Those who ask while
// others wait share it.
func (m *mirror) sync() <-chan struct{} {
	m.mu.Lock()
	if m.nextSync == nil {
		m.nextSync = make(chan struct{})
	}
	done := m.nextSync
	m.mu.Unlock()
	m.poke()
	return done
}

// beginSync begins to sync where somebody asks for it and it is time. m.mu is
// held.
func (m *mirror) beginSync() {
	if m.syncing == nil && m.nextSync != nil && m.clock() >= m.synced {
		m.syncing, m.nextSync = m.nextSync, nil
	}
}

// endSync ends a sync once there is nothing left to take in, and returns whom to
// tell when the turn is over.
func (m *mirror) endSync() (done chan struct{}) {
	if m.syncing == nil || len(m.queue) > 0 || m.pass.urgent {
		return nil
	}
	began := m.clock()
	m.activity()
	now := m.clock()
	m.synced = now.Add(max(syncRest, syncShare*now.Sub(began)))
	done, m.syncing = m.syncing, nil
	return done
}
