// Draws each chart when it comes near the screen, and all of them for paper. ECharts does the drawing; this turns
// the page's data into its options, in the colours of the page's style.
"use strict";
(() => {
  const charts = JSON.parse(document.getElementById("chart-data").textContent);
  const drawn = new Map();
  const colours = 8;
  const minute = 60_000;
  const day = 24 * 60 * minute;

  const styles = () => {
    const style = getComputedStyle(document.documentElement);
    return (name) => style.getPropertyValue(name).trim();
  };

  const short = (value) => {
    const size = Math.abs(value);
    for (const [least, unit] of [[1e9, "G"], [1e6, "M"], [1e3, "k"]]) {
      if (size >= least) return `${Number((value / least).toPrecision(3))}${unit}`;
    }
    return String(Number(value.toPrecision(4)));
  };

  const figure = (value) =>
    value === null || value === undefined || Number.isNaN(value)
      ? "–"
      : value.toLocaleString("en", { maximumSignificantDigits: 6 });

  const ofSide = (list, right) => (list || []).filter((one) => Boolean(one.right) === right);

  // Thresholds are in sight whatever the data are, and lines do not run along the upper edge beside them.
  const extent = (axis, chart, right) => {
    const rules = ofSide(chart.rules, right).map((rule) => rule.value);
    if (!rules.length) return { min: axis.min ?? ((range) => (range.min < 0 ? null : 0)), max: axis.max };
    const points = ofSide(chart.lines, right).flatMap((line) => line.points.map((point) => point[1] ?? 0));
    const most = [...points, ...rules].reduce((a, b) => Math.max(a, b), 0);
    const least = [...points, ...rules].reduce((a, b) => Math.min(a, b), 0);
    return { min: axis.min ?? (least < 0 ? least * 1.15 : 0), max: axis.max ?? (most > 0 ? most * 1.15 : 1) };
  };

  const verticalAxis = (axis, chart, right, css) => ({
    type: "value",
    name: axis.label,
    nameLocation: "end",
    nameGap: 8,
    nameTextStyle: {
      color: css("--muted"),
      align: right ? "right" : "left",
      padding: right ? [0, -44, 0, 0] : [0, 0, 0, -44],
    },
    ...extent(axis, chart, right),
    splitNumber: 3,
    interval: axis.interval,
    // The upper end is not a round number where it was computed from a threshold.
    axisLabel: { color: css("--muted"), formatter: short, showMaxLabel: ofSide(chart.rules, right).length ? false : null },
    splitLine: { show: !right, showMaxLine: false, lineStyle: { color: css("--line") } },
  });

  const markRules = (rules, css) => ({
    silent: true,
    symbol: "none",
    animation: false,
    data: rules.map((rule) => ({
      yAxis: rule.value,
      lineStyle: { color: rule.colour || css("--alarm"), type: "dashed", width: 1 },
      label: { formatter: rule.label, position: "insideEndTop", color: rule.colour || css("--alarm"), fontSize: 10 },
    })),
  });

  const markBreach = (rules, css) => ({
    silent: true,
    animation: false,
    itemStyle: { color: css("--alarm"), opacity: 0.07 },
    data: rules.filter((rule) => rule.breach).map((rule) =>
      rule.breach === "above" ? [{ yAxis: rule.value }, { yAxis: Infinity }] : [{ yAxis: -Infinity }, { yAxis: rule.value }]),
  });

  const options = (chart) => {
    const css = styles();
    const sides = [chart.left, chart.right].filter(Boolean);
    const span = chart.end - chart.start;
    const series = chart.lines.map((line, index) => {
      const colour = line.colour || css(`--c${index % colours}`);
      const lone = line.points.length <= 60 && !chart.steps;
      return {
        name: line.label,
        type: "line",
        yAxisIndex: line.right ? 1 : 0,
        stack: chart.stacked ? "all" : undefined,
        areaStyle: chart.stacked || chart.area ? { opacity: chart.stacked ? 0.5 : 0.15 } : undefined,
        showSymbol: lone,
        symbol: "circle",
        symbolSize: 4,
        lineStyle: { width: 1.5, type: index < colours ? "solid" : "dashed" },
        itemStyle: { color: colour },
        emphasis: { disabled: true },
        data: line.points,
      };
    });
    for (const right of [false, true]) {
      const rules = ofSide(chart.rules, right);
      const bearer = series.find((one) => one.yAxisIndex === (right ? 1 : 0));
      if (rules.length && bearer) {
        bearer.markLine = markRules(rules, css);
        bearer.markArea = markBreach(rules, css);
      }
    }
    return {
      animation: false,
      useUTC: true,
      textStyle: { fontFamily: css("--font"), fontSize: 11 },
      grid: { outerBoundsMode: "none", left: 48, right: chart.right || chart.seconds ? 48 : 12, top: sides.some((side) => side.label) ? 24 : 10, bottom: 22 },
      xAxis: {
        type: "time",
        min: chart.start,
        max: chart.end,
        // A stage's metrics have minutes; a load test is over within some.
        minInterval: chart.seconds ? 1_000 : minute,
        splitNumber: 4,
        axisLine: { onZero: false, lineStyle: { color: css("--line") } },
        axisLabel: {
          color: css("--muted"),
          hideOverlap: true,
          alignMaxLabel: "right",
          formatter: span > 2 * day ? "{MM}-{dd} {HH}:{mm}" : chart.seconds ? "{HH}:{mm}:{ss}" : "{HH}:{mm}",
        },
      },
      yAxis: sides.map((side, index) => verticalAxis(side, chart, index === 1, css)),
      tooltip: {
        trigger: "axis",
        confine: true,
        order: "valueDesc",
        valueFormatter: figure,
        backgroundColor: css("--panel"),
        borderColor: css("--line"),
        textStyle: { color: css("--text"), fontSize: 11 },
        axisPointer: { lineStyle: { color: css("--muted") } },
      },
      series,
    };
  };

  const draw = (element) => {
    const chart = drawn.get(element) || echarts.init(element, null, { renderer: "svg" });
    drawn.set(element, chart);
    chart.setOption(options(charts[element.dataset.chart]), true);
    element.dataset.drawn = "true";
  };

  const elements = [...document.querySelectorAll("[data-chart]")];
  const near = new IntersectionObserver(
    (entries) => {
      for (const entry of entries.filter((one) => one.isIntersecting)) {
        near.unobserve(entry.target);
        draw(entry.target);
      }
    },
    { rootMargin: "600px" },
  );
  const size = new ResizeObserver((entries) => entries.forEach((entry) => drawn.get(entry.target)?.resize()));
  for (const element of elements) {
    near.observe(element);
    size.observe(element);
  }
  addEventListener("beforeprint", () => elements.filter((one) => !drawn.has(one)).forEach(draw));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => [...drawn.keys()].forEach(draw));

  // A link into something folded away unfolds it.
  const unfold = () => {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    for (let box = target?.closest("details"); box; box = box.parentElement.closest("details")) box.open = true;
    target?.scrollIntoView();
  };
  addEventListener("hashchange", unfold);
  if (location.hash) unfold();
})();
