// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"

	"github.com/sirupsen/logrus"

	"vxsnd/internal/config"
	"vxsnd/internal/node"
)

// A service is what a daemon runs. Its methods are called in this order, each
// once; Close also where Listen failed.
type service interface {
	Listen(ctx context.Context) error
	Run(ctx context.Context) error
	Close() error
}

// newService builds the service node. Tests put another one in its place.
var newService = func(c config.Config, log logrus.FieldLogger) (service, error) {
	return node.New(c, log)
}
