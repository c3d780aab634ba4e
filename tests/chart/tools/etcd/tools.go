//go:build tools

// Package tools names the store of the control plane that the chart is tested on.
package tools

import _ "go.etcd.io/etcd/server/v3"
