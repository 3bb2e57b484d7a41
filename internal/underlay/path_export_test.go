// SPDX-License-Identifier: Apache-2.0

package underlay

import (
	"context"
	"net/netip"
	"time"
)

// OpenPathsWith is OpenPaths with a receive buffer of so many bytes, and with how
// often all is compared.
func OpenPathsWith(vrf string, buffer int, compare time.Duration) (*Paths, error) {
	p, err := OpenPaths(vrf, nil)
	if err != nil {
		return nil, err
	}
	f, err := openFeed(buffer)
	if err != nil {
		p.Close()
		return nil, err
	}
	p.u.feed.close()
	p.u.feed, p.compare = f, compare
	return p, nil
}

// Asked returns how many questions the kernel was asked.
func (p *Paths) Asked() uint32 {
	p.u.conn.mu.Lock()
	defer p.u.conn.mu.Unlock()
	return p.u.conn.seq
}

// RunHere is Run on the calling thread, without what the kernel tells.
func (p *Paths) RunHere(ctx context.Context, changed func(map[netip.Addr]Path), devices func([]PathDevice)) error {
	return newPathFollower(p, changed, devices).run(ctx, nil, nil)
}
