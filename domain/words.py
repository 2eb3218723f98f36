"""The Chinese words that people see, for every code (domain.md §2), and the sentences made of them."""

from datetime import datetime, timedelta

from domain.calendar import SHANGHAI
from domain.case import ActionKind, Assignment, CaseState, Category, Clock, Grade, Role, Stage
from domain.commands import Act
from domain.district import Terms
from domain.events import (
    ActionTaken,
    Called,
    CallRefused,
    Cancelled,
    CheckedIn,
    CheckInConfirmed,
    CheckInDisputed,
    Closed,
    Dispatched,
    DoneReported,
    Entry,
    Escalated,
    PlanAgreed,
    Rated,
    ReworkOrdered,
    SignDeemed,
    Signed,
)
from domain.policy import ClockKind, LimitClass, Order, Receiver, Urgency

STAGES = {
    Stage.CALLED: "待派单",
    Stage.DISPATCHED: "待签收",
    Stage.SIGNED: "待报到",
    Stage.CHECKED_IN: "已报到",
    Stage.ENFORCING: "联合执法",
    Stage.AWAITING_RATING: "待评价",
    Stage.CLOSED: "已办结",
    Stage.CANCELLED: "已撤销",
    Stage.REFUSED: "已退回",
}
CATEGORIES = {Category.LIVELIHOOD: "民生", Category.ENFORCEMENT: "执法", Category.DEVELOPMENT: "发展"}
URGENCIES = {Urgency.ROUTINE: "一般", Urgency.URGENT: "紧急"}
LIMIT_CLASSES = {
    LimitClass.SIMPLE: "简单",
    LimitClass.ORDINARY: "一般",
    LimitClass.HARD: "疑难",
    LimitClass.COMPLEX: "复杂",
}
CLOCKS = {
    ClockKind.DISPATCH: "派单",
    ClockKind.SIGN: "签收",
    ClockKind.CHECK_IN: "报到",
    ClockKind.CONFIRM: "报到确认",
    ClockKind.HANDLING: "办理",
    ClockKind.CASE: "全案",
    ClockKind.RATING: "评价",
}
ACTS = {
    Act.DISPATCH: "派单",
    Act.REFUSE: "退回",
    Act.CANCEL: "撤销",
    Act.SIGN: "签收",
    Act.CHECK_IN: "报到",
    Act.CONFIRM_CHECK_IN: "确认报到",
    Act.DISPUTE_CHECK_IN: "对报到提出异议",
    Act.PLAN: "登记方案",
    Act.ACTION: "登记执法措施",
    Act.DONE: "报告办理完成",
    Act.RATE: "评价",
    Act.REWORK: "退回重办",
}
ORDERS = {Order.REMINDER: "催办", Order.SUPERVISION: "督办", Order.REPORT: "上报"}
RECEIVERS = {
    Receiver.DUTY_OFFICER: "部门值班人员",
    Receiver.DEPARTMENT_HEAD: "部门负责人",
    Receiver.DISPATCHER: "指挥中心",
    Receiver.COORDINATOR: "区协调小组",
    Receiver.CITY_COORDINATOR: "市协调小组",
    Receiver.TOWNSHIP: "镇街",
}
STATUSES = {
    "dispatched": "待签收",
    "signed": "待报到",
    "checked_in": "已报到(待确认)",
    "confirmed": "已报到",
    "enforcing": "办理中",
    "done": "已完成(待评价)",
    "rated": "已评价",
}
GRADES = {Grade.SATISFIED: "满意", Grade.BASICALLY_SATISFIED: "基本满意", Grade.DISSATISFIED: "不满意"}
ACTIONS = {
    ActionKind.DEMOLITION: "拆除",
    ActionKind.DEMOLITION_NOTICE: "限期拆除通知",
    ActionKind.SEALING: "封堵(查封)",
    ActionKind.CLOSURE_ORDER: "责令关停",
    ActionKind.SEIZURE: "扣押",
    ActionKind.FINE: "罚款",
    ActionKind.MEDIATION: "调解",
    ActionKind.OTHER: "其他措施",
}
ROLES = {
    Role.CITIZEN: "群众",
    Role.GRID_WORKER: "网格员",
    Role.TOWNSHIP_OFFICER: "镇街经办人",
    Role.TOWNSHIP_APPROVER: "镇街审批人",
    Role.DISPATCHER: "派单员",
    Role.DEPARTMENT_OFFICER: "部门经办人",
    Role.DEPARTMENT_HEAD: "部门负责人",
    Role.RESIDENT_OFFICER: "常驻执法人员",
    Role.COORDINATOR: "协调小组",
    Role.LEADER: "领导",
    Role.SUPERVISOR: "督查",
    Role.AUDITOR: "审计",
    Role.ADMINISTRATOR: "管理员",
    Role.INTEGRATION: "接入系统",
}


def local(moment: datetime) -> str:
    """Return the moment as people in Shandong read it, to the minute: '11月23日 15:30'."""
    at = moment.astimezone(SHANGHAI)
    return f"{at.month}月{at.day}日 {at:%H:%M}"


def span(length: timedelta) -> str:
    """Return a length of time in the two largest units that matter: '2天3小时', '45分钟', '不足1分钟'."""
    minutes = int(length.total_seconds() // 60)
    days, minutes = divmod(minutes, 24 * 60)
    hours, minutes = divmod(minutes, 60)
    parts = [(days, "天"), (hours, "小时"), (minutes, "分钟")]
    told = [f"{amount}{unit}" for amount, unit in parts if amount][:2]
    return "".join(told) or "不足1分钟"


def summary(state: CaseState, terms: Terms) -> str:
    """Return one line for lists: township, urgency where it matters, title."""
    urgent = "【紧急】" if state.call.urgency is Urgency.URGENT else ""
    return f"{urgent}{terms.name(state.call.township)}:{state.call.title}"


def label(state: CaseState, terms: Terms, at: datetime) -> str:
    """Return one line for operators' lists with nothing in it that the caller wrote: it is never encrypted."""
    urgent = "【紧急】" if state.call.urgency is Urgency.URGENT else ""
    matter = state.call.item_name or f"{CATEGORIES[state.call.category]}类事项"
    overdue = "·超时" if state.is_overdue(at) else ""
    return f"{urgent}{terms.name(state.call.township)}·{matter}·{STAGES[state.stage]}{overdue}"


def sentence(entry: Entry, terms: Terms) -> str:
    """Return what happened, as one Chinese sentence without the time and without who acted."""
    event, name = entry.event, terms.name
    match event:
        case Called():
            asked = event.call.requested_check_in_at
            wish = f",要求{local(asked)}报到" if asked else ""
            return (
                f"{name(event.call.township)}吹哨:{event.call.title}({URGENCIES[event.call.urgency]}{wish})"
            )
        case CallRefused():
            return f"退回呼叫:{event.reason}"
        case Cancelled():
            return f"撤销呼叫:{event.reason}"
        case Dispatched():
            others = "、".join(name(code) for code in event.cooperating)
            cooperating = f";配合单位:{others}" if others else ""
            return f"派单。牵头单位:{name(event.lead)}{cooperating}(办理时限类别:{LIMIT_CLASSES[event.limit_class]})"
        case Signed():
            return f"{name(event.department)}签收{'(超时补签)' if event.late else ''}"
        case SignDeemed():
            return f"{name(event.department)}超过签收时限({local(event.due_at)}),视同签收并计为未按时签收"
        case CheckedIn():
            officers = "、".join(officer.name for officer in event.officers)
            return f"{name(event.department)}报到:{officers},{local(event.arrived_at)}到达"
        case CheckInConfirmed():
            how = "镇街逾期未提异议,视为确认" if event.by_silence else "镇街确认"
            return f"{name(event.department)}报到:{how}"
        case CheckInDisputed():
            return f"{name(event.department)}报到有异议,不计入报到:{event.reason}"
        case PlanAgreed():
            return f"{name(event.department)}登记处置方案:{event.text}"
        case ActionTaken():
            action = event.action
            follow_up = f";整改期限{action.follow_up_on:%Y-%m-%d}" if action.follow_up_on else ""
            return f"{name(action.department)}{ACTIONS[action.kind]}:{action.description};结果:{action.result}{follow_up}"
        case DoneReported():
            return f"{name(event.department)}报告办理完成:{event.result}"
        case Rated():
            solved = "已解决" if event.solved else "未解决"
            comment = f":{event.comment}" if event.comment else ""
            return f"评价{name(event.department)}:{GRADES[event.grade]},{solved}{comment}"
        case ReworkOrdered():
            return f"{name(event.department)}退回重办(第{event.round}次办理):{event.reason}"
        case Escalated():
            owner = (
                name(event.department)
                if event.department
                else "全案"
                if event.clock is ClockKind.CASE
                else "指挥中心"
            )
            told = "、".join(RECEIVERS[receiver] for receiver in event.receivers)
            return f"{owner}{CLOCKS[event.clock]}超时({local(event.due_at)}到期),第{event.level}级{ORDERS[event.order]},通知{told}"
        case Closed():
            return (
                f"办结:{'、'.join(name(code) for code in event.unrated)}逾期未评价"
                if event.unrated
                else "办结"
            )


def actor_name(entry: Entry) -> str:
    """Return who acted, or that the clock did."""
    return entry.by.name if entry.by else "系统时钟"


def light(clock: Clock, at: datetime, yellow_share: float) -> str:
    """Return the colour word of a clock: 红(超时), 黄(临期), 绿."""
    if clock.is_red(at):
        return "红(超时)"
    return "黄(临期)" if clock.is_yellow(at, yellow_share) else "绿(正常)"


def details(state: CaseState, latest: list[Entry], at: datetime, terms: Terms) -> str:
    """Return the case as Markdown for the Temporal UI: stage, each department's clocks, what happened last.

    No personal data of the caller: this text is not encrypted in every installation.
    """
    call, share = state.call, terms.policy.yellow_share
    lines = [
        f"## {STAGES[state.stage]}",
        f"**{summary(state, terms)}**",
        f"地点:{call.location.address}  ",
        f"类别:{CATEGORIES[call.category]} · 事项:{call.item_name or '未列事项'} · 政策版本:{state.policy_version}",
        "",
    ]
    if state.assignments:
        lines += [_row(state, assignment, at, share, terms) for assignment in state.assignments]
        lines.append("")
    own = [clock for clock in state.running if clock.department is None]
    lines += [
        f"- {CLOCKS[clock.kind]}时钟:{local(clock.due_at)}到期 {light(clock, at, share)}"
        f"{'(节假日安排未公布,暂估)' if clock.estimated else ''}"
        for clock in own
    ]
    lines += ["", "### 最近动态"]
    lines += [
        f"- {local(entry.at)} {actor_name(entry)}:{sentence(entry, terms)}" for entry in reversed(latest)
    ]
    return "\n".join(lines)


def _row(state: CaseState, assignment: Assignment, at: datetime, share: float, terms: Terms) -> str:
    clocks = [clock for clock in state.running if clock.department == assignment.department]
    current = min(clocks, key=lambda clock: clock.due_at, default=None)
    role = "牵头" if assignment.lead else "配合"
    clock = (
        f",{CLOCKS[current.kind]} {local(current.due_at)} 到期 {light(current, at, share)}" if current else ""
    )
    return f"- **{terms.name(assignment.department)}**({role}){STATUSES[assignment.status]}{clock}"
