package cloud

import (
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"

	"github.com/mooring-lb/mooring/cloud/config"
)

// loadConfig reads the cloud-config, and refuses what this version cannot serve.
func (c *Cloud) loadConfig() error {
	if c.options.ConfigFile == "" {
		return errors.New("--cloud-config is required: the path of a file of kind CloudConfig (mooring.dev/v1alpha1)")
	}
	if c.watcher == nil {
		c.watcher = config.NewWatcher(c.options.ConfigFile, c.configChanged, c.configRefused)
	}
	cfg, err := c.watcher.Load()
	if err != nil {
		return err
	}
	if err := config.Unbuilt(cfg); err != nil {
		return fmt.Errorf("cloud-config %s: %w", c.options.ConfigFile, err)
	}
	c.config = cfg
	return nil
}

// configChanged takes over a changed cloud-config, or says why not.
func (c *Cloud) configChanged(cfg *config.Config) error {
	if err := config.Unbuilt(cfg); err != nil {
		return err
	}
	if err := c.room.ledger().SetConfig(cfg, c.options.Clock.Now()); err != nil {
		return err
	}
	c.room.resyncEvery.Store(int64(cfg.ResyncInterval))
	c.room.drain()
	c.room.metrics.reloads.WithLabelValues("ok").Inc()
	klog.Background().Info("Cloud-config loaded", "file", c.options.ConfigFile, "pools", len(cfg.Pools),
		"restartNeeded", cfg.InitializeNodes != c.config.InitializeNodes)
	message := "the changed cloud-config is in force"
	if cfg.InitializeNodes != c.config.InitializeNodes {
		message += ", but for initializeNodes: that is read at the start only, restart the controller"
	}
	c.tellPod(corev1.EventTypeNormal, eventConfigLoaded, message)
	return nil
}

// configRefused says where people look that the last good configuration stays in force: the log, a metric, an event
// on our Pod.
func (c *Cloud) configRefused(err error) {
	c.room.metrics.reloads.WithLabelValues("refused").Inc()
	klog.Background().Error(err, "Cloud-config refused; the last good one stays in force", "file", c.options.ConfigFile)
	c.tellPod(corev1.EventTypeWarning, eventConfigRefused, "the last good cloud-config stays in force: "+err.Error())
}

// maxEventMessage is the API server's limit for an event's note.
const maxEventMessage = 1024

func (c *Cloud) tellPod(kind, reason, message string) {
	if c.options.Pod.Name == "" {
		return
	}
	if len(message) > maxEventMessage {
		message = message[:maxEventMessage-3] + "..."
	}
	c.options.Recorder.Event(&c.options.Pod, kind, reason, message)
}
