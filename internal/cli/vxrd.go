// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"net/http"

	"github.com/sirupsen/logrus"

	"vxsnd/internal/config"
	"vxsnd/internal/metrics/prom"
	"vxsnd/internal/preflight"
	"vxsnd/internal/process"
	"vxsnd/internal/registrar"
)

// A registrarService is the registration daemon as a daemon sees it.
type registrarService struct {
	*registrar.Registrar
	cfg config.Config // of the start
}

func newRegistrarService(c config.Config, log logrus.FieldLogger) (service, error) {
	r, err := registrar.New(c, log)
	if err != nil {
		return nil, err
	}
	return &registrarService{r, c}, nil
}

// Prepare calls that of the registrar.
func (s *registrarService) Prepare(c config.Config) (change, error) {
	p, err := s.Registrar.Prepare(c)
	if err != nil {
		return nil, err
	}
	return p, nil
}

// Metrics has nothing to answer with.
func (s *registrarService) Metrics(func(*prom.Figures), func() int) http.Handler { return nil }

// Needs says what the configuration asks of the machine.
func (s *registrarService) Needs() preflight.Input { return registrarNeeds(&s.cfg) }

// registrarNeeds is what a registration daemon asks of the machine: that what
// others send to its devices is not filtered. The other checks are about packets
// that a daemon itself receives and sends.
func registrarNeeds(c *config.Config) preflight.Input { return preflight.Input{VRF: c.VRF} }

const registrarCheck = "rp_filter"

// Capabilities are CAP_NET_ADMIN for flood entries.
func (s *registrarService) Capabilities() []process.Capability {
	if s.cfg.HeadRep {
		return []process.Capability{process.NetAdmin}
	}
	return nil
}
