"""Node, as rclpy.node."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from typing import Any

from cyclonedds.core import DDSStatus

from . import names
from .arguments import Arguments
from .callback_groups import CallbackGroup, MutuallyExclusiveCallbackGroup
from .client import Client
from .clock import Clock, ROSClock
from .context import Context, get_default_context
from .duration import NANOSECONDS
from .event_handler import NO_EVENTS, EntityEvents, PublisherEventCallbacks, SubscriptionEventCallbacks
from .guard_condition import GuardCondition
from .logging import RcutilsLogger, get_logger
from .node_graph import NodeGraph
from .node_parameters import NodeParameters
from .parameter import Parameter
from .parameter_services import ParameterEvents, ParameterServices
from .parameters import Parameters
from .publisher import Publisher
from .qos import QoSProfile, as_profile, for_service, qos_profile_services_default, to_dds
from .rosout import Rosout
from .service import Service
from .subscription import Subscription
from .time_source import TimeSource
from .timer import Timer
from .types import idl_type, type_hash
from .waitable import Waitable
from .wire import Reader, Writer


class Node(NodeParameters, NodeGraph):
    def __init__(
        self,
        node_name: str,
        *,
        context: Context | None = None,
        cli_args: Sequence[str] | None = None,
        namespace: str | None = None,
        use_global_arguments: bool = True,
        enable_rosout: bool = True,
        start_parameter_services: bool = True,
        parameter_overrides: Sequence[Parameter] | None = None,
        allow_undeclared_parameters: bool = False,
        automatically_declare_parameters_from_overrides: bool = False,
    ) -> None:
        """Raises NotInitializedException before init(), and InvalidNodeName/NamespaceException."""
        self._context = context or get_default_context()
        local = Arguments.parse(_with_ros_args(cli_args or ()))
        shared = self._context.arguments if use_global_arguments else Arguments()
        self._remaps = Arguments(remap_rules=[*local.remap_rules, *shared.remap_rules])
        self._name = names.validate_node_name(self._remaps.node_name(node_name))
        self._rule_name = node_name
        self._namespace = names.validate_namespace(self._remaps.node_namespace(node_name, namespace or "/"))
        self._full_name = names.full_node_name(self._name, self._namespace)
        self._logger = get_logger(self._full_name.strip("/").replace("/", "."))
        self.executor: Any = None
        self.waitables: tuple[Waitable, ...] = ()
        self._publishers: list[Publisher] = []
        self._default_callback_group = MutuallyExclusiveCallbackGroup()
        self.ros_clock = ROSClock()
        values = shared.parameter_overrides(self._full_name) | local.parameter_overrides(self._full_name)
        self._parameter_overrides = {name: Parameter(name, None, value) for name, value in values.items()}
        self._parameter_overrides.update({parameter.name: parameter for parameter in parameter_overrides or ()})
        self.parameters = Parameters(self._parameter_overrides, allow_undeclared=allow_undeclared_parameters)
        self._entities = self._context.graph.add_node(self._name, self._namespace)
        self._destroyed = False
        self._rosout = Rosout(self) if enable_rosout else None
        ParameterEvents(self)
        if automatically_declare_parameters_from_overrides:
            for name, parameter in self._parameter_overrides.items():
                self.declare_parameter(name, parameter.value)
        TimeSource(self)
        if start_parameter_services:
            ParameterServices(self)

    @property
    def context(self) -> Context:
        return self._context

    @property
    def default_callback_group(self) -> CallbackGroup:
        return self._default_callback_group

    def get_name(self) -> str:
        return self._name

    def get_namespace(self) -> str:
        return self._namespace

    def get_fully_qualified_name(self) -> str:
        return self._full_name

    def get_logger(self) -> RcutilsLogger:
        return self._logger

    def get_clock(self) -> Clock:
        return self.ros_clock

    @property
    def publishers(self) -> list[Publisher]:
        return list(self._publishers)

    @property
    def subscriptions(self) -> list[Subscription]:
        return [waitable for waitable in self.waitables if isinstance(waitable, Subscription)]

    @property
    def services(self) -> list[Service]:
        return [waitable for waitable in self.waitables if isinstance(waitable, Service)]

    @property
    def clients(self) -> list[Client]:
        return [waitable for waitable in self.waitables if isinstance(waitable, Client)]

    @property
    def timers(self) -> list[Timer]:
        return [waitable for waitable in self.waitables if isinstance(waitable, Timer)]

    def resolve_topic_name(self, topic: str, *, only_expand: bool = False) -> str:
        return self._resolve(topic, "topic", only_expand)

    def resolve_service_name(self, service: str, *, only_expand: bool = False) -> str:
        return self._resolve(service, "service", only_expand)

    def _resolve(self, name: str, kind: str, only_expand: bool) -> str:
        full = names.expand(name, self._name, self._namespace, service=kind == "service")
        if only_expand:
            return full
        return self._remaps.remap(full, kind, self._name, self._namespace, self._rule_name)

    def create_publisher(
        self,
        msg_type: Any,
        topic: str,
        qos_profile: QoSProfile | int,
        *,
        callback_group: CallbackGroup | None = None,
        event_callbacks: PublisherEventCallbacks | None = None,
    ) -> Publisher:
        qos = as_profile(qos_profile)
        name = self.resolve_topic_name(topic)
        publisher = Publisher(self, msg_type, name, qos)
        publisher.events = EntityEvents(event_callbacks, self._group(callback_group))
        publisher.writer = self._writer(names.topic_to_dds(name), name, msg_type, qos, events=publisher.events)
        self._publishers.append(publisher)
        self._context.graph.change_entities(self._entities, add=[publisher.writer])
        self._begin_events(publisher.events, publisher.writer)
        return publisher

    def create_subscription(
        self,
        msg_type: Any,
        topic: str,
        callback: Callable[..., None],
        qos_profile: QoSProfile | int,
        *,
        callback_group: CallbackGroup | None = None,
        event_callbacks: SubscriptionEventCallbacks | None = None,
        raw: bool = False,
    ) -> Subscription:
        qos = as_profile(qos_profile)
        name = self.resolve_topic_name(topic)
        subscription = Subscription(self, msg_type, name, callback, self._group(callback_group), qos, raw)
        subscription.events = EntityEvents(event_callbacks, subscription.callback_group)
        dds_name, events = names.topic_to_dds(name), subscription.events
        subscription.reader = self._reader(subscription, dds_name, name, msg_type, qos, events=events)
        self._add(subscription, subscription.reader)
        self._begin_events(events, subscription.reader)
        return subscription

    def create_service(
        self,
        srv_type: Any,
        srv_name: str,
        callback: Callable[[Any, Any], Any],
        *,
        qos_profile: QoSProfile = qos_profile_services_default,
        callback_group: CallbackGroup | None = None,
    ) -> Service:
        name = self.resolve_service_name(srv_name)
        service = Service(self, srv_type, name, callback, self._group(callback_group), qos_profile)
        identity = f"serviceid={_identity()};"
        request, reply = names.request_to_dds(name), names.reply_to_dds(name)
        qos = for_service(qos_profile)
        service.writer = self._writer(reply, name, srv_type.Response, qos, identity)
        service.reader = self._reader(service, request, name, srv_type.Request, qos, identity)
        self._add(service, service.reader, service.writer)
        return service

    def create_client(
        self,
        srv_type: Any,
        srv_name: str,
        *,
        qos_profile: QoSProfile = qos_profile_services_default,
        callback_group: CallbackGroup | None = None,
    ) -> Client:
        name = self.resolve_service_name(srv_name)
        client = Client(self, srv_type, name, self._group(callback_group), qos_profile)
        identity = f"clientid={_identity()};"
        request, reply = names.request_to_dds(name), names.reply_to_dds(name)
        qos = for_service(qos_profile)
        client.reader = self._reader(client, reply, name, srv_type.Response, qos, identity)
        client.writer = self._writer(request, name, srv_type.Request, qos, identity)
        self._add(client, client.reader, client.writer)
        return client

    def create_timer(
        self,
        timer_period_sec: float,
        callback: Callable[[], None],
        callback_group: CallbackGroup | None = None,
        clock: Clock | None = None,
        autostart: bool = True,
    ) -> Timer:
        period = int(float(timer_period_sec) * NANOSECONDS)
        group = self._group(callback_group)
        timer = Timer(self, callback, group, period, clock or self.ros_clock, autostart)
        self._add(timer)
        return timer

    def create_guard_condition(
        self, callback: Callable[[], None], callback_group: CallbackGroup | None = None
    ) -> GuardCondition:
        guard = GuardCondition(self, callback, self._group(callback_group))
        self._add(guard)
        return guard

    def destroy_publisher(self, publisher: Publisher) -> bool:
        if publisher not in self._publishers:
            return False
        self._publishers.remove(publisher)
        self._end_events(publisher.events)
        self._close(publisher.writer)
        return True

    def destroy_subscription(self, subscription: Subscription) -> bool:
        self._end_events(subscription.events)
        return self._remove(subscription, "reader")

    def destroy_service(self, service: Service) -> bool:
        return self._remove(service, "reader", "writer")

    def destroy_client(self, client: Client) -> bool:
        return self._remove(client, "reader", "writer")

    def destroy_timer(self, timer: Timer) -> bool:
        timer.cancel()
        return self._remove(timer)

    def destroy_guard_condition(self, guard: GuardCondition) -> bool:
        return self._remove(guard)

    def destroy_node(self) -> None:
        """Take the node off the network; a second call does nothing."""
        if self._destroyed:
            return
        self._destroyed = True
        if self.executor is not None:
            self.executor.remove_node(self)
        if self._rosout is not None:
            self._rosout.close()
        for publisher in self.publishers:
            self.destroy_publisher(publisher)
        for waitable in self.waitables:
            self._remove(waitable, "reader", "writer")
        if not self._context.closed:
            self._context.graph.remove_node(self._entities)

    def __enter__(self) -> Node:
        return self

    def __exit__(self, *_: object) -> None:
        self.destroy_node()

    def _group(self, group: CallbackGroup | None) -> CallbackGroup:
        return group if group is not None else self._default_callback_group

    def _add(self, waitable: Waitable, *ends: Reader | Writer) -> None:
        self.waitables += (waitable,)  # replaced, not changed: executors read it without a lock
        if ends:
            self._context.graph.change_entities(self._entities, add=ends)
        self._context.bell.ring()

    def _remove(self, waitable: Waitable, *ends: str) -> bool:
        if not any(other is waitable for other in self.waitables):
            return False
        self.waitables = tuple(other for other in self.waitables if other is not waitable)
        self._close(*(getattr(waitable, end) for end in ends if hasattr(waitable, end)))
        return True

    def _close(self, *ends: Reader | Writer) -> None:
        if self._context.closed:
            return
        self._context.graph.change_entities(self._entities, remove=ends)
        for end in ends:
            end.close()

    def _topic(self, dds_name: str, msg_type: Any, qos: QoSProfile, identity: str) -> tuple[Any, Any]:
        """The topic, and the QoS of an end of it, which tells its type hash."""
        is_service = not dds_name.startswith("rt/")
        topic = self._context.wire.topic(dds_name, idl_type(msg_type.TYPE_NAME, is_service))
        return topic, to_dds(qos, f"{identity}typehash={type_hash(msg_type.TYPE_NAME)};")

    def _begin_events(self, events: EntityEvents, end: Reader | Writer) -> None:
        for handler in events.handlers:
            handler.entity = end.entity
            self._add(handler)

    def _end_events(self, events: EntityEvents) -> None:
        for handler in events.handlers:
            self._remove(handler)

    def _writer(
        self,
        dds_name: str,
        name: str,
        msg_type: Any,
        qos: QoSProfile,
        identity: str = "",
        events: EntityEvents = NO_EVENTS,
    ) -> Writer:
        def on_status(writer: Writer, status: int) -> None:
            events.signal(status)
            if status & DDSStatus.OfferedIncompatibleQos and events.says_incompatible:
                self._context.qos_watch.suspect(writer.gid, name, dds_name, qos, True, self._logger)
            self._context.bell.ring()

        topic, dds_qos = self._topic(dds_name, msg_type, qos, identity)
        return Writer(self._context.wire, topic, dds_qos, on_status, events.statuses)

    def _reader(
        self,
        waitable: Waitable,
        dds_name: str,
        name: str,
        msg_type: Any,
        qos: QoSProfile,
        identity: str = "",
        events: EntityEvents = NO_EVENTS,
    ) -> Reader:
        def on_status(reader: Reader, status: int) -> None:
            events.signal(status)
            if status & DDSStatus.DataAvailable:
                waitable.signalled = True
            if status & DDSStatus.RequestedIncompatibleQos and events.says_incompatible:
                self._context.qos_watch.suspect(reader.gid, name, dds_name, qos, False, self._logger)
            self._context.bell.ring()

        topic, dds_qos = self._topic(dds_name, msg_type, qos, identity)
        return Reader(self._context.wire, topic, dds_qos, on_status, events.statuses)


def _identity() -> str:
    """What tells the two topics of one service end belong together, in rmw_cyclonedds's form."""
    return ".".join(f"{byte:x}" for byte in uuid.uuid4().bytes)


def _with_ros_args(cli_args: Sequence[str]) -> Sequence[str]:
    return cli_args if "--ros-args" in cli_args else ["--ros-args", *cli_args]
