// SPDX-License-Identifier: Apache-2.0

package registrar

import (
	"vxsnd/internal/config"
	"vxsnd/internal/headend"
)

// A Change is a configuration that a running registrar is ready to take over.
// Either Commit or Discard is called, once, and before the next Prepare.
type Change struct {
	r   *Registrar
	cfg config.Config
}

// Prepare does all that can fail on the way to another configuration, of which
// only the dynamic part counts. It is called by one goroutine at a time.
func (r *Registrar) Prepare(cfg config.Config) (*Change, error) {
	running := r.config()
	return &Change{r, cfg.WithStatic(&running)}, nil
}

// Commit makes the configuration the registrar's own: everything is registered
// anew under it.
func (c *Change) Commit() {
	r := c.r
	r.mu.Lock()
	r.cfg = c.cfg
	r.mu.Unlock()
	r.tell(func(n *news) { n.configured = true })
	if r.lists != nil {
		r.lists.Configure(listSettings(&c.cfg))
	}
}

// Discard leaves the registrar as it was before Prepare.
func (c *Change) Discard() {}

func listSettings(c *config.Config) headend.Settings {
	return headend.Settings{Interval: c.ConfigCheckRate, Devices: c.HrepDevices}
}
