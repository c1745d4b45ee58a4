"The ground that the other tests stand on: a browser, and a smallest widget in JupyterLab and Notebook 7."
import pytest

WIDGET = '''import anywidget, traitlets
class Counter(anywidget.AnyWidget):
    _esm = """
    function render({ model, el }) {
      const b = document.createElement("button"), show = () => { b.textContent = `count ${model.get("n")} twice ${model.get("twice")}`; };
      b.addEventListener("click", () => { model.set("n", model.get("n") + 1); model.save_changes(); });
      model.on("change:twice", show);
      show();
      el.append(b);
    }
    export default { render };
    """
    n, twice = traitlets.Int(20).tag(sync=True), traitlets.Int(40).tag(sync=True)
    @traitlets.observe("n")
    def _twice(self, change): self.twice = 2 * self.n
counter = Counter()
counter'''


def test_what_a_page_asks_for_and_complains_about_is_seen(page, chromium):
    tab = page(offline=True)
    tab.set_content("<img src=https://example.org/x.png alt=''><script>console.error('broken'); setTimeout(() => nothing.here, 0)</script>")
    tab.wait_for_timeout(300)
    assert page.abroad == ["https://example.org/x.png"] and len(page.said) == 3     # the picture that did not come, the message, the exception
    page.said.clear()


@pytest.mark.parametrize("app", ["lab", "notebooks"])
def test_a_widget_and_its_kernel_talk(page, lab, app):
    nb = lab.open(page(), lab.write(f"{app}.ipynb", WIDGET), app)
    nb.run_all()
    button = nb.tab.get_by_role("button", name="count 20 twice 40")
    button.click()
    nb.tab.get_by_role("button", name="count 21 twice 42").wait_for()
    nb.save()
    nb.shutdown()
    assert "count" in (lab.root/f"{app}.ipynb").read_text() and not lab.api("sessions")
