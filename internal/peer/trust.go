// SPDX-License-Identifier: Apache-2.0

package peer

import "time"

const (
	// minDistrust and maxDistrust bound how long a peer is not asked for its table
	// after an answer that was no use, which doubles from one to the next.
	minDistrust = 20 * time.Second
	maxDistrust = 5 * time.Minute
)

// A trust is what the peer's answers were like. It is guarded by the peer's
// mutex.
type trust struct {
	away  bool          // it last closed a question without a word
	pause time.Duration // after the last answer, 0 where that was of use
	until time.Time     // when the pause ends
}

// turnedAway records whether the peer closed a question without a word.
func (p *peer) turnedAway(away bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.trust.away = away
}

// useful records whether an answer of the peer was of use.
func (p *peer) useful(yes bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if yes {
		p.trust.pause = 0
		return
	}
	p.trust.pause = min(max(2*p.trust.pause, minDistrust), maxDistrust)
	p.trust.until = time.Now().Add(p.trust.pause)
}

// trusted tells whether the peer may be asked for its table: it is some time
// since it gave an answer that was no use.
func (p *peer) trusted() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.trust.pause == 0 || !time.Now().Before(p.trust.until)
}
