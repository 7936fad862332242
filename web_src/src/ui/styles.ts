// All rules stand below .sightline-editor; colours are the host's variables, with fallbacks.

const CSS = `
.sightline-editor{--se-bg:var(--comfy-menu-bg,#353535);--se-panel:var(--comfy-menu-secondary-bg,#303030);--se-field:var(--comfy-input-bg,#222);
--se-ink:var(--input-text,#ddd);--se-soft:var(--descrip-text,#999);--se-line:var(--border-color,#4e4e4e);--se-hover:var(--content-hover-bg,#222);
--se-bad:var(--error-text,#ff5f56);--se-accent:#ffb454;--se-accent-ink:#20180a;
container-type:inline-size;position:relative;display:flex;flex-direction:column;width:100%;height:100%;min-height:0;box-sizing:border-box;background:var(--se-bg);color:var(--se-ink);
font:12px/1.4 ui-sans-serif,system-ui,"Segoe UI","Noto Sans","Noto Sans CJK SC",sans-serif;border-radius:6px;overflow:hidden;text-align:left;user-select:none;cursor:default}
.sightline-editor *{box-sizing:border-box}
.sightline-editor.se-light{--se-accent:#a75400;--se-accent-ink:#fff}
.sightline-editor [hidden]{display:none!important}
.sightline-editor p,.sightline-editor h3,.sightline-editor h4{margin:0}
.sightline-editor :focus-visible{outline:2px solid var(--se-accent);outline-offset:1px}
.sightline-editor .se-toolbar{display:flex;flex-wrap:wrap;gap:4px 8px;padding:5px 6px;align-items:center;border-bottom:1px solid var(--se-line);flex:none}
.sightline-editor .se-set{display:inline-flex;align-items:center;background:var(--se-field);border-radius:6px;overflow:hidden}
.sightline-editor .se-end{margin-left:auto}
.sightline-editor .se-button{display:inline-flex;align-items:center;justify-content:center;gap:4px;min-width:26px;height:26px;padding:0 6px;border:0;border-radius:6px;background:var(--se-field);color:var(--se-ink);font:inherit;cursor:pointer;white-space:nowrap}
.sightline-editor .se-button:hover:not(:disabled){background:var(--se-hover);box-shadow:inset 0 0 0 1px var(--se-line)}
.sightline-editor .se-button:disabled{opacity:.45;cursor:not-allowed}
.sightline-editor .se-button[aria-pressed=true]{background:var(--se-accent);color:var(--se-accent-ink)}
.sightline-editor .se-set .se-button{border-radius:0;background:none}
.sightline-editor .se-set .se-button[aria-pressed=true]{background:var(--se-accent)}
.sightline-editor .se-primary{background:var(--se-accent);color:var(--se-accent-ink);font-weight:600}
.sightline-editor .se-primary:hover:not(:disabled){background:var(--se-accent);filter:brightness(1.08)}
.sightline-editor .se-mini{height:24px;min-width:24px;padding:0 4px}
.sightline-editor .se-step{height:26px;border:0;background:none;color:var(--se-ink);font:inherit;padding:0 2px;cursor:pointer}
.sightline-editor .se-step option,.sightline-editor select option{background:var(--se-field);color:var(--se-ink)}
.sightline-editor .se-body{flex:1;min-height:0;display:grid;grid-template:minmax(150px,1fr) auto/minmax(140px,30%) minmax(0,1fr);grid-template-areas:"list view" "panel panel"}
.sightline-editor .se-list{grid-area:list;display:flex;flex-direction:column;min-height:0;border-right:1px solid var(--se-line);background:var(--se-panel)}
.sightline-editor .se-rows{flex:1;overflow:auto;padding:4px;min-height:0}
.sightline-editor .se-row{display:flex;align-items:center;gap:5px;min-height:28px;padding:2px 4px;border-radius:5px;cursor:pointer}
.sightline-editor .se-row:hover,.sightline-editor .se-hovered{background:var(--se-hover)}
.sightline-editor .se-selected{background:var(--se-field);box-shadow:inset 2px 0 0 var(--se-accent)}
.sightline-editor .se-hidden .se-name{opacity:.5;text-decoration:line-through}
.sightline-editor .se-inner{margin-left:10px}
.sightline-editor .se-over{box-shadow:inset 0 2px 0 var(--se-accent)}
.sightline-editor .se-group{display:flex;gap:5px;align-items:center;width:100%;border:0;background:none;color:var(--se-soft);font:inherit;padding:4px;cursor:pointer;text-align:left;min-height:26px}
.sightline-editor .se-name{flex:1;min-width:0;overflow:hidden;text-overflow:ellipsis;white-space:nowrap}
.sightline-editor .se-chip{flex:none;display:inline-grid;place-items:center;min-width:17px;height:17px;padding:0 3px;border-radius:4px;background:var(--chip);color:#0d0f12;font:700 10px/1 ui-sans-serif,system-ui,sans-serif}
.sightline-editor .se-row .se-button{background:none;opacity:0}
.sightline-editor .se-row:hover .se-button,.sightline-editor .se-row:focus-within .se-button,.sightline-editor .se-row .se-on{opacity:1}
.sightline-editor .se-row .se-on{background:none;color:var(--se-accent)}
.sightline-editor .se-row .se-button:not(.se-on){width:0;min-width:0;padding:0;margin-left:-5px;overflow:hidden}
.sightline-editor .se-row:hover .se-button:not(.se-on),.sightline-editor .se-row:focus-within .se-button:not(.se-on){width:24px;margin-left:0}
.sightline-editor .se-seen{color:var(--se-soft);font-size:10px}
.sightline-editor .se-warn,.sightline-editor .se-warnings{color:var(--se-accent);display:inline-flex;align-items:center;gap:4px}
.sightline-editor .se-thumb{width:20px;height:20px;object-fit:cover;border-radius:3px}
.sightline-editor .se-broken{color:var(--se-bad);display:inline-flex}
.sightline-editor .se-add{margin:4px;flex:none}
.sightline-editor .se-empty{color:var(--se-soft);padding:8px 6px}
.sightline-editor .se-viewport{grid-area:view;position:relative;min-width:0;min-height:0;overflow:hidden;touch-action:none;outline-offset:-2px;cursor:default}
.sightline-editor .se-viewport>canvas{position:absolute;inset:0;width:100%;height:100%;display:block}
.sightline-editor .se-status{position:absolute;left:8px;bottom:6px;display:flex;gap:8px;align-items:center;padding:2px 7px;border-radius:5px;background:var(--se-bg);font-size:11px;max-width:calc(100% - 16px)}
.sightline-editor .se-warnings{border:0;background:none;font:inherit;padding:0;min-height:24px;cursor:pointer}
.sightline-editor .se-tip{position:absolute;left:8px;right:8px;bottom:34px;margin:auto;width:fit-content;max-width:460px;display:flex;gap:8px;align-items:center;padding:5px 6px 5px 12px;border-radius:8px;background:var(--se-bg);border:1px solid var(--se-line);border-left:3px solid var(--se-accent)}
.sightline-editor .se-tip:empty{display:none}
.sightline-editor .se-hint{position:absolute;left:50%;top:50%;transform:translate(-50%,-50%);display:flex;flex-wrap:wrap;gap:8px;justify-content:center;width:min(88%,320px);text-align:center}
.sightline-editor .se-hint:empty{display:none}
.sightline-editor .se-hint p{width:100%;padding:6px 10px;border-radius:6px;background:var(--se-bg)}
.sightline-editor .se-panels{grid-area:panel;border-top:1px solid var(--se-line);background:var(--se-panel);min-width:0}
.sightline-editor .se-tabs{display:flex;gap:2px;padding:4px 6px 0}
.sightline-editor .se-tab{border:0;background:none;color:var(--se-soft);font:inherit;padding:5px 10px;min-height:26px;border-radius:6px 6px 0 0;cursor:pointer}
.sightline-editor .se-tab[aria-selected=true]{background:var(--se-bg);color:var(--se-ink);font-weight:600}
.sightline-editor .se-panel{background:var(--se-bg);padding:8px;display:flex;flex-direction:column;gap:7px;height:232px;overflow:auto}
.sightline-editor .se-field{position:relative;display:flex;align-items:center;gap:5px;flex:1;min-width:0;background:var(--se-field);border-radius:6px;padding-left:8px;height:28px}
.sightline-editor .se-field>span:first-child{color:var(--se-soft);white-space:nowrap;overflow:hidden;text-overflow:ellipsis;flex:none;max-width:55%}
.sightline-editor .se-wide{flex:none;height:auto;flex-direction:column;align-items:stretch;background:none;padding:0;gap:2px}
.sightline-editor .se-wide>span:first-child{max-width:none}
.sightline-editor .se-scrub{cursor:ew-resize;touch-action:none}
.sightline-editor input,.sightline-editor textarea,.sightline-editor select{font:inherit;color:var(--se-ink)}
.sightline-editor .se-number{flex:1;min-width:0;width:100%;height:28px;border:0;background:none;text-align:right;padding:0 6px;font-variant-numeric:tabular-nums;user-select:text}
.sightline-editor .se-number[aria-invalid]{color:var(--se-bad)}
.sightline-editor .se-unit{color:var(--se-soft);padding-right:7px}
.sightline-editor .se-note{position:absolute;right:0;top:100%;z-index:3;background:var(--se-bg);color:var(--se-bad);border:1px solid var(--se-bad);border-radius:5px;padding:2px 6px;white-space:nowrap}
.sightline-editor .se-note:empty{display:none}
.sightline-editor .se-text{width:100%;min-height:28px;border:0;border-radius:6px;background:var(--se-field);padding:4px 8px;resize:vertical;user-select:text}
.sightline-editor .se-three{display:grid;grid-template-columns:repeat(3,minmax(0,1fr));gap:6px}
.sightline-editor .se-line{display:flex;flex-wrap:wrap;gap:6px;align-items:center}
.sightline-editor .se-cam{flex-direction:column;height:auto;padding:3px;gap:2px;max-width:84px}
.sightline-editor .se-cam canvas{border-radius:4px;display:block}
.sightline-editor .se-cam span{max-width:76px;overflow:hidden;text-overflow:ellipsis;font-size:11px}
.sightline-editor .se-cameras{align-items:flex-end}
.sightline-editor .se-keep{display:flex;gap:6px;align-items:center;flex:none;border-top:1px solid var(--se-line);padding-top:8px}
.sightline-editor .se-keep .se-caption{white-space:nowrap}
.sightline-editor .se-preset{flex:1;background:var(--se-field);height:28px}
.sightline-editor .se-colour{width:30px;height:28px;border:0;border-radius:6px;padding:2px;background:var(--se-field);cursor:pointer}
.sightline-editor .se-check{display:inline-flex;align-items:center;gap:5px;min-height:24px;cursor:pointer}
.sightline-editor .se-check input{accent-color:var(--se-accent);margin:0;width:14px;height:14px}
.sightline-editor .se-info,.sightline-editor .se-caption{color:var(--se-soft);font-size:11px}
.sightline-editor .se-problem{display:flex;gap:5px;align-items:center;color:var(--se-ink)}
.sightline-editor .se-problem svg,.sightline-editor .se-badge svg{color:var(--se-accent);flex:none}
.sightline-editor .se-slider{display:grid;grid-template-columns:minmax(150px,44%) 1fr 26px;gap:8px;align-items:center}
.sightline-editor input[type=range]{width:100%;min-width:0;accent-color:var(--se-accent);height:24px;margin:0;background:none}
.sightline-editor .se-badge p{display:flex;gap:6px;align-items:center}
.sightline-editor .se-badge{border-left:3px solid #3fb68b;padding:3px 8px;background:var(--se-field);border-radius:0 5px 5px 0}
.sightline-editor .se-badge.se-amber{border-color:var(--se-accent)}
.sightline-editor .se-prompt{line-height:1.9;user-select:text}
.sightline-editor .se-word{display:inline-flex;gap:4px;align-items:center;border:0;border-radius:5px;background:var(--se-field);color:var(--se-ink);font:inherit;padding:1px 6px;min-height:24px;cursor:pointer;box-shadow:inset 0 -2px 0 var(--chip)}
.sightline-editor .se-word.se-hovered{background:var(--se-hover)}
.sightline-editor .se-menu{position:absolute;z-index:20;min-width:180px;max-height:92%;overflow:auto;padding:4px;border-radius:8px;background:var(--se-bg);border:1px solid var(--se-line);box-shadow:0 8px 28px rgba(0,0,0,.45)}
.sightline-editor .se-menu hr{border:0;border-top:1px solid var(--se-line);margin:4px 2px}
.sightline-editor .se-item{display:grid;grid-template-columns:18px 1fr auto;gap:6px;align-items:center;width:100%;min-height:26px;border:0;border-radius:5px;background:none;color:var(--se-ink);font:inherit;text-align:left;padding:2px 8px 2px 4px;cursor:pointer}
.sightline-editor .se-item:hover:not(:disabled),.sightline-editor .se-item:focus{background:var(--se-hover)}
.sightline-editor .se-item:disabled{opacity:.45}
.sightline-editor kbd{font:inherit;color:var(--se-soft)}
.sightline-editor .se-window{position:absolute;z-index:15;inset:44px 8px auto 8px;margin:auto;max-width:420px;max-height:min(620px,calc(100% - 54px));display:flex;flex-direction:column;border-radius:10px;background:var(--se-bg);border:1px solid var(--se-line);box-shadow:0 10px 40px rgba(0,0,0,.5)}
.sightline-editor .se-window.se-wide{max-width:760px;max-height:min(680px,calc(100% - 54px));align-items:stretch;gap:0;padding:0}
.sightline-editor .se-window header{display:flex;justify-content:space-between;align-items:center;padding:8px 8px 4px 12px}
.sightline-editor .se-window h3{font-size:13px;font-weight:600}
.sightline-editor .se-window-body{padding:4px 12px 12px;overflow:auto;display:flex;flex-direction:column;gap:8px;min-height:0}
.sightline-editor .se-choices{overflow:auto;min-height:0;display:grid;grid-template-columns:repeat(auto-fill,minmax(150px,1fr));gap:3px;align-content:start}
.sightline-editor .se-choices>[role=group]{display:contents}
.sightline-editor .se-choices h4{grid-column:1/-1;color:var(--se-soft);font-size:11px;font-weight:600;padding-top:6px}
.sightline-editor .se-choice{display:flex;justify-content:space-between;gap:8px;align-items:center;border:0;border-radius:5px;background:var(--se-field);color:var(--se-ink);font:inherit;text-align:left;padding:4px 8px;min-height:28px;cursor:pointer}
.sightline-editor .se-choice:hover,.sightline-editor .se-choice:focus,.sightline-editor .se-choice[aria-current=true]{box-shadow:inset 0 0 0 1px var(--se-accent)}
.sightline-editor .se-choice small{color:var(--se-soft);font-size:10px;white-space:nowrap}
.sightline-editor .se-gallery{display:grid;grid-template-columns:repeat(auto-fill,minmax(140px,1fr));gap:8px}
.sightline-editor .se-example{border:1px solid var(--se-line);border-radius:8px;overflow:hidden;background:var(--se-field);color:var(--se-ink);font:inherit;padding:0 0 6px;cursor:pointer;display:flex;flex-direction:column;gap:6px}
.sightline-editor .se-example img{width:100%;height:auto;aspect-ratio:1;object-fit:cover;background:#000}
.sightline-editor .se-example:hover{border-color:var(--se-accent)}
.sightline-editor .se-table{border-collapse:collapse;width:100%}
.sightline-editor .se-table th{text-align:left;font-weight:400;padding:3px 10px 3px 0;white-space:nowrap}
.sightline-editor .se-table td{padding:3px 6px 3px 0;font-variant-numeric:tabular-nums}
.sightline-editor .se-table kbd{background:var(--se-field);border-radius:4px;padding:1px 6px;color:var(--se-ink)}
.sightline-editor .se-bar{flex:none}
.sightline-editor .se-bar:empty{display:none}
.sightline-editor .se-offer{display:flex;align-items:center;gap:8px;padding:5px 8px;background:var(--se-field);border-bottom:1px solid var(--se-line)}
.sightline-editor .se-trouble{padding:8px 10px;display:flex;flex-direction:column;gap:6px;background:var(--se-field);border-left:3px solid var(--se-bad);max-height:45%;overflow:auto}
.sightline-editor .se-trouble pre{white-space:pre-wrap;word-break:break-all;max-height:90px;overflow:auto;margin:4px 0 0;user-select:text}
.sightline-editor .se-trouble code{color:var(--se-soft);margin-left:6px}
.sightline-editor.se-readonly .se-list .se-add,.sightline-editor.se-readonly .se-panel{pointer-events:none;opacity:.55}
.sightline-editor .se-speech{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)}
.sightline-editor.se-narrow .se-body{grid-template:minmax(150px,1fr) auto auto/minmax(0,1fr);grid-template-areas:"view" "list" "panel"}
.sightline-editor.se-narrow .se-list{border-right:0;border-top:1px solid var(--se-line);max-height:104px}
.sightline-editor.se-narrow .se-slider{grid-template-columns:minmax(120px,52%) 1fr 26px}
.sightline-editor.se-narrow .se-tab{padding:5px 7px}
.sightline-editor.se-still>:not(.se-body),.sightline-editor.se-still .se-body>:not(.se-viewport),.sightline-editor.se-still .se-viewport>:not(canvas){display:none}
.sightline-editor.se-still .se-body{display:flex}
.sightline-editor.se-still .se-viewport{flex:1;pointer-events:none}
.sightline-editor.se-roomy .se-body{grid-template:minmax(0,1fr)/220px minmax(0,1fr) 340px;grid-template-areas:"list view panel"}
.sightline-editor.se-roomy .se-panels{border-top:0;border-left:1px solid var(--se-line);display:flex;flex-direction:column}
.sightline-editor.se-roomy .se-panel{flex:1;height:auto}
.sightline-dialog{width:min(96vw,1800px);height:94vh;max-width:none;max-height:none;padding:0;border:1px solid var(--border-color,#4e4e4e);border-radius:10px;background:var(--comfy-menu-bg,#353535);overflow:hidden}
.sightline-dialog::backdrop{background:rgba(0,0,0,.6)}
@media (pointer:coarse){.sightline-editor .se-button,.sightline-editor .se-tab,.sightline-editor .se-row,.sightline-editor .se-field,.sightline-editor .se-item,.sightline-editor .se-choice{min-height:44px}.sightline-editor .se-button{min-width:44px}}
@media (prefers-reduced-motion:no-preference){.sightline-editor .se-button,.sightline-editor .se-row{transition:background .12s}}
`;

let done = false;
export function addStyles(): void {
  if (done && document.getElementById("sightline-editor-styles")) return;
  done = true;
  const style = document.createElement("style");
  style.id = "sightline-editor-styles";
  style.textContent = CSS;
  document.head.append(style);
}
