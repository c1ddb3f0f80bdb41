package cloud

import (
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"

	"github.com/mooring-lb/mooring/cloud/config"
	"github.com/mooring-lb/mooring/cloud/service"
)

// loadConfig reads the cloud-config, and refuses what this controller cannot serve.
func (c *Cloud) loadConfig() error {
	if c.options.ConfigFile == "" {
		return errors.New("--cloud-config is required: the path of a file of kind CloudConfig (mooring.dev/v1alpha1)")
	}
	if c.watcher == nil {
		c.watcher = config.NewWatcher(c.options.ConfigFile, c.configChanged, c.configRefused)
		if c.options.PollConfig {
			c.watcher.PollOnly()
		}
	}
	cfg, err := c.watcher.Load()
	if err != nil {
		return err
	}
	if err := c.take(cfg); err != nil {
		c.watcher.Refuse(cfg) // a token file may come after the cloud-config that names it
		return fmt.Errorf("cloud-config %s: %w", c.options.ConfigFile, err)
	}
	c.config = cfg
	return nil
}

// defaultClusterName is what --cluster-name is when nobody sets it.
const defaultClusterName = "kubernetes"

// take judges what only the controller can judge of a cloud-config, and reads its token files.
func (c *Cloud) take(cfg *config.Config) error {
	if config.Buys(cfg) && (c.options.ClusterName == "" || c.options.ClusterName == defaultClusterName) {
		return fmt.Errorf("a pool buys Floating IPs, which carry the cluster's name: set --cluster-name to a name of your own (it is %q)",
			c.options.ClusterName)
	}
	return c.room.tenants.load(cfg)
}

// configChanged takes over a changed cloud-config, or says why not.
func (c *Cloud) configChanged(cfg *config.Config) error {
	if err := c.take(cfg); err != nil {
		return err
	}
	if err := c.room.ledger().SetConfig(cfg, c.room.tenants.rental(cfg), c.options.Clock.Now()); err != nil {
		// What was loaded belongs to a configuration that does not come into force.
		return errors.Join(err, c.room.tenants.load(c.config))
	}
	c.config = cfg
	c.room.config.Store(cfg)
	c.room.tenants.follow()
	if err := c.room.balancers.follow(cfg); err != nil {
		klog.Background().Error(err, "An updater pool goes on with its last configuration")
	}
	c.room.resyncEvery.Store(int64(cfg.ResyncInterval))
	c.room.prober.Configure(probeOptions(cfg))
	for _, svc := range c.room.ours() { // also those whose class is served from now on
		c.room.queue.Add(service.KeyOf(svc))
	}
	c.room.showAnew()
	c.room.policy.wake()
	c.room.drain()
	c.room.metrics.reloaded(nil)
	restart := cfg.InitializeNodes != c.initializeNodes
	klog.Background().Info("Cloud-config loaded", "file", c.options.ConfigFile, "pools", len(cfg.Pools), "restartNeeded", restart)
	message := "the changed cloud-config is in force"
	if restart {
		message += ", but for initializeNodes: that is read at the start only, restart the controller"
	}
	c.room.tellPod(corev1.EventTypeNormal, eventConfigLoaded, message)
	return nil
}

// configRefused says where people look that the last good configuration stays in force: the log, a metric, an event
// on our Pod.
func (c *Cloud) configRefused(err error) {
	c.room.metrics.reloaded(err)
	klog.Background().Error(err, "Cloud-config refused; the last good one stays in force", "file", c.options.ConfigFile)
	c.room.tellPod(corev1.EventTypeWarning, eventConfigRefused, "the last good cloud-config stays in force: "+err.Error())
}

// maxEventMessage is the API server's limit for an event's note.
const maxEventMessage = 1024

// tellPod says something to those who look at the controller's Pod.
func (r *room) tellPod(kind, reason, message string) {
	if r.options.Pod.Name == "" {
		return
	}
	if len(message) > maxEventMessage {
		message = message[:maxEventMessage-3] + "..."
	}
	r.options.Recorder.Event(&r.options.Pod, kind, reason, message)
}
